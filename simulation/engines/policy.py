"""How work is cut, handed out and watched: every number of the scheduler, in one table.

Those of the first part decide chunks and the merge tree, and with them the order of floating-point
sums: another value gives other last bits. All others change how long a run takes, and no bit of it.

===================== ======= ===================================================================
what decides bits
-------------------------------------------------------------------------------------------------
``chunk_share``       1/128   A chunk takes at most this part of the work that is left: enough for
                              that many workers.
``client_cost``       16      What a client costs beyond its examples, counted in examples.
``chunk_queue``       4       Clients of a chunk for each lane at least, where a worker trains
                              clients side by side.
``merge_arity``       4       Children of a node of the merge tree.
``test_rows``         2,000   Rows that are evaluated in one call.
--------------------- ------- -------------------------------------------------------------------
what is handed out whole
-------------------------------------------------------------------------------------------------
``unit_share``        1/2     A worker is handed at most this part of its share of the work that is
                              left at a time. Source: Hummel, Schonberg and Flynn (1992),
                              "Factoring", Communications of the ACM 35(8).
``unit_least``        1/128   A unit need not be smaller than this part of a worker's share of all
                              work: the hand-over takes the driver and Ray some 9 ms of a core.
``unit_seconds``      0.2     Nor smaller than so many seconds of training, however few workers.
``alone_seconds``     1.0     Nor smaller than so many where one process does all: nobody waits for
                              its share, and a call ends for the sake of the screen alone.
``driver_seconds``    0.01    Nor than so many seconds for each worker: with more hand-overs the
                              workers would wait for the driver.
``shared_seconds``    0.5     Seconds of training where several runs share the pool.
``units_each``        16      Units that every worker gets in spite of that, so that all end at
                              about the same time.
``units_ahead``       6       Calls that those at work make for each worker, where clients are sent
                              out one by one: a call costs as much as training some of them.
``far_after``         2       Where results come from other nodes: a unit trains at least so many
                              times as long as its result is on the way, so that the link is free
                              for half of the time ...
``units_far``         4       ... but every worker gets so many units.
``messages``          8       Flower messages that travel in one call, at most.
--------------------- ------- -------------------------------------------------------------------
which host is handed what (clusters of several nodes alone)
-------------------------------------------------------------------------------------------------
``home_spare``        0.05    Hosts' shares of the work may differ by twice this part of the
                              smallest one, for the sake of fewer sums.
``home_waits``        0.3     A host's calls are its own until no more than this part of its share
                              waits; beyond, others who have nothing to do take half of it.
``merge_inputs``      16      Partials that one call merges where they were made, at most.
--------------------- ------- -------------------------------------------------------------------
who merges
-------------------------------------------------------------------------------------------------
``driver_workers``    8       Workers up to which the driver merges partials itself.
``driver_bytes``      2**27   Bytes of partials that it merges itself, however many workers.
``driver_rate``       2**27   Bytes more for each second of the round: fetching and adding so many
                              takes the driver a tenth of its time, and less than calls of workers
                              that merge them would.
--------------------- ------- -------------------------------------------------------------------
the workers' lines
-------------------------------------------------------------------------------------------------
``depth``             2       Calls with a worker at a time: the next is there when one ends.
``line_share``        0.7     A worker's calls are at most this part of its share of what is left;
                              beyond, a call waits for the first worker that has nothing to do.
``values_kept``       2       Shared values that a worker keeps at hand: a round's model, and what
                              the server shares.
``unequal``           2       Workers count as different when one is so many times as fast.
``pace_memory``       0.9     What is left of a worker's past after each unit. Costs are estimates,
                              good for large clients and less so for small ones: the last few alone
                              would make equal workers look unequal.
``most_units``        8       Units for each worker at most, where workers differ: each costs the
                              driver some work.
--------------------- ------- -------------------------------------------------------------------
who hangs
-------------------------------------------------------------------------------------------------
``hung_after``        10      A call counts as hung after so many times what the slowest one so far
                              would have taken ...
``hung_least``        60      ... and at least so many seconds.
``glance``            1       Seconds between looks at the cluster's nodes, and at hung calls.
--------------------- ------- -------------------------------------------------------------------
who is out of reach (clusters of several nodes alone)
-------------------------------------------------------------------------------------------------
``late_after``        2       A call is late after so many times what calls of its size took lately:
                              it goes to another worker too, and the first answer counts ...
``late_least``        4       ... and at least so many seconds ...
``late_unknown``      45      ... or these, for a worker's first call of a kind, as it compiles.
``calls_kept``        128     Calls of a kind that are remembered for that: some three rounds of
                              four workers.
``silent_after``      5       Seconds without an answer of a node's port; its calls go to others
                              then. A link that is back before costs less than a second copy.
``nudge``             5       Seconds between calls that do nothing, to a worker that is late: they
                              find out that a connection is none any more, which Ray would notice
                              after 7 minutes (its ``grpc_client_keepalive_time_ms``).
``fetch_least``       5       Seconds for a result that is done to come from its node, before it is
                              made again elsewhere too ...
``fetch_after``       3       ... or so many times what the slowest has taken so far.
``fetches_kept``      64      Results that are remembered for how long they are on the way.
``piece_bytes``       90,000  Bytes of a piece of a result that comes with a worker's answers; Ray
                              sends up to 100 KB so (its ``max_direct_call_object_size``).
``pieces_each``       100     Pieces of one answer: Ray sends up to 10 MB with it.
``pull_first``        10      Seconds to fetch a value from another node: the model and what is
                              shared come in pieces with the call then; a client's state is tried
                              again, with twice as many. Ray asks again after 10, 20, 40 ... s, and
                              anew in each try.
``pull_tries``        2       Tries for a client's state, after which the call is done again.
``ready_least``       120     Seconds for a new worker to get ready before another is started in its
                              place; each other has twice as many.
``waiting_said``      30      Seconds of waiting that are said; then after twice as many each time.
``busy_said``         10      The same where no worker can begin, as others have the cluster's CPUs.
``head_silent``       16      Seconds without an answer of the cluster's head that end a run.
``all_silent``        55      The same where no node answers at all: it is this machine's link then,
                              which may come back. Ray itself gives up after 60.
``probe_seconds``     1       Seconds for a port to answer.
``join_seconds``      10      Seconds to reach a cluster whose address is given.
``hosts_seconds``     30      Seconds for its hosts to tell their versions, before the run begins.
===================== ======= ===================================================================
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """The numbers of the scheduler: see the table of this module."""

    chunk_share: float = 1 / 128
    client_cost: float = 16.0
    chunk_queue: int = 4
    branches: int = 8
    branch_chunks: int = 4
    merge_arity: int = 4
    test_rows: int = 2000

    unit_share: float = 1 / 2
    unit_least: float = 1 / 128
    unit_seconds: float = 0.2
    alone_seconds: float = 1.0
    driver_seconds: float = 0.01
    shared_seconds: float = 0.5
    units_each: int = 16
    units_ahead: int = 6
    far_after: float = 2.0
    units_far: int = 4
    messages: int = 8

    home_spare: float = 0.05
    home_waits: float = 0.3
    merge_inputs: int = 16

    driver_workers: int = 8
    driver_bytes: int = 2**27
    driver_rate: int = 2**27

    depth: int = 2
    line_share: float = 0.7
    values_kept: int = 2
    unequal: float = 2.0
    pace_memory: float = 0.9
    most_units: int = 8

    hung_after: float = 10.0
    hung_least: float = 60.0
    glance: float = 1.0

    late_after: float = 2.0
    late_least: float = 4.0
    late_unknown: float = 45.0
    calls_kept: int = 128
    silent_after: float = 5.0
    nudge: float = 5.0
    fetch_least: float = 5.0
    fetch_after: float = 3.0
    fetches_kept: int = 64
    piece_bytes: int = 90_000
    pieces_each: int = 100
    pull_first: float = 10.0
    pull_tries: int = 2
    ready_least: float = 120.0
    waiting_said: float = 30.0
    busy_said: float = 10.0
    head_silent: float = 16.0
    all_silent: float = 55.0
    probe_seconds: float = 1.0
    join_seconds: float = 10.0
    hosts_seconds: float = 30.0


POLICY = Policy()
"""The numbers that hold: measured on the benchmarks of ``benchmarks/``."""
