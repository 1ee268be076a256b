"""SCAFFOLD, FedDyn and FedNova against references written from the papers, on quadratics.

Client i holds ``F_i(x) = (x - b_i)^T A_i (x - b_i) / 2`` and takes full gradient steps. The
optimum of the mean is known, and FedAvg, whose clients drift towards their own, misses it.
"""

import numpy as np
import pytest

from strategies import Cohort, Round, Spec, Update, catalog
from strategies.client_rule import GRADIENT, Local
from strategies.steps import step_weight

DIM, CLIENTS, STEPS, LR = 4, 6, 8, 0.05
RNG = np.random.default_rng(7)
ROOTS = RNG.normal(size=(CLIENTS, DIM, DIM))
A = np.array([root @ root.T / DIM + 0.3 * np.eye(DIM) for root in ROOTS])
B = 3 * RNG.normal(size=(CLIENTS, DIM))
OPTIMUM = np.linalg.solve(A.sum(axis=0), np.einsum("ijk,ik->j", A, B))
SPEC = Spec(("w",), ((DIM,),), 1)


def gradient(i, x):
    return A[i] @ (x - B[i])


def simulate(
    algorithm,
    rounds,
    cohort,
    lr=LR,
    steps=(STEPS,) * CLIENTS,
    grad=gradient,
    momentum=(0.0, False),
    told=None,
    rate=0.0,
    state_too=False,
):
    """Run an algorithm of ours through its parts, as the engine does; return the trail of x.

    Clients train with Keras' SGD: ``v <- rho v - lr g``, then ``w <- w + v``, or with Nesterov's
    momentum ``w <- w + rho v - lr g``. They report ``told`` as theirs, by default what it is, and
    ``rate`` as their learning rate.
    """
    rho, nesterov = momentum
    x = np.zeros(DIM)
    state = algorithm.init(SPEC, x)
    kept = {i: {name: np.zeros(DIM) for name in algorithm.client.own} for i in range(CLIENTS)}
    trail = []
    for number in range(1, rounds + 1):
        shared, partial = algorithm.share(state, number), None
        for i in cohort.sample(number, CLIENTS):
            w, v, extras = x, np.zeros(DIM), {}
            for _ in range(steps[i]):
                g = grad(i, w)
                if algorithm.client.hook:
                    g = algorithm.client.hook(g, w, x, shared, kept[i])
                v = rho * v - lr * g
                w = w + (rho * v - lr * g if nesterov else v)
            about = dict(zip(("momentum", "nesterov"), told or momentum, strict=True))
            if algorithm.client.after:
                local = Local(steps[i], lr, **about)
                extras, kept[i] = algorithm.client.after(w - x, shared, kept[i], local)
            if algorithm.client.gradient:
                extras = {**extras, GRADIENT: grad(i, x)}
            update = Update(i, 1, w - x, steps[i], extras, learning_rate=rate, **about)
            partial = algorithm.reducer.fold(partial, update)
        mean = algorithm.reducer.finish(partial)
        x, state = algorithm.step(SPEC, x, state, mean, Round(number, CLIENTS))
        trail.append(x)
    return state if state_too else np.array(trail)


def scaffold_reference(rounds, cohort, server_lr):
    """Karimireddy et al., Algorithm 1, option II."""
    x, c, ci = np.zeros(DIM), np.zeros(DIM), np.zeros((CLIENTS, DIM))
    trail = []
    for number in range(1, rounds + 1):
        sampled = cohort.sample(number, CLIENTS)
        dy, dc = [], []
        for i in sampled:
            y = x.copy()
            for _ in range(STEPS):
                y = y - LR * (gradient(i, y) - ci[i] + c)
            plus = ci[i] - c + (x - y) / (STEPS * LR)
            dy.append(y - x)
            dc.append(plus - ci[i])
            ci[i] = plus
        x = x + server_lr / len(sampled) * sum(dy)
        c = c + 1 / CLIENTS * sum(dc)
        trail.append(x)
    return np.array(trail)


def feddyn_reference(rounds, cohort, alpha):
    """Acar et al., Algorithm 1, with gradient descent on the regularised local objective."""
    theta, h, local = np.zeros(DIM), np.zeros(DIM), np.zeros((CLIENTS, DIM))
    trail = []
    for number in range(1, rounds + 1):
        sampled = cohort.sample(number, CLIENTS)
        ends = []
        for k in sampled:
            t = theta.copy()
            for _ in range(STEPS):
                t = t - LR * (gradient(k, t) - local[k] + alpha * (t - theta))
            local[k] = local[k] - alpha * (t - theta)
            ends.append(t)
        h = h - alpha / CLIENTS * sum(t - theta for t in ends)
        theta = sum(ends) / len(ends) - h / alpha
        trail.append(theta)
    return np.array(trail)


ALL, SOME = Cohort(), Cohort(size=2, seed=1)


@pytest.mark.parametrize("cohort", [ALL, SOME])
@pytest.mark.parametrize("server_lr", [1.0, 0.5])
def test_scaffold_is_algorithm_1(cohort, server_lr):
    ours = simulate(catalog.build("scaffold", learning_rate=server_lr), 30, cohort)
    np.testing.assert_allclose(ours, scaffold_reference(30, cohort, server_lr), rtol=1e-10)


@pytest.mark.parametrize("cohort", [ALL, SOME])
@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_feddyn_is_algorithm_1(cohort, alpha):
    ours = simulate(catalog.build("feddyn", alpha=alpha), 30, cohort)
    np.testing.assert_allclose(ours, feddyn_reference(30, cohort, alpha), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cohort", [ALL, SOME])
@pytest.mark.parametrize(("name", "options"), [("scaffold", {}), ("feddyn", {"alpha": 1.0})])
def test_they_reach_the_optimum_where_fedavg_does_not(name, options, cohort):
    ours = simulate(catalog.build(name, **options), 600, cohort)[-1]
    fedavg = simulate(catalog.build("fedavg"), 600, cohort)[-1]
    assert np.linalg.norm(ours - OPTIMUM) < 1e-6
    assert np.linalg.norm(fedavg - OPTIMUM) > 1e-2


def test_the_control_variates_end_at_the_clients_gradients():
    # At the optimum c_i = grad F_i(x*), whose mean c is 0: nobody drifts any more.
    algorithm = catalog.build("scaffold")
    x, kept = OPTIMUM, [{"c": gradient(i, OPTIMUM)} for i in range(CLIENTS)]
    for i in range(CLIENTS):
        g = algorithm.client.hook(gradient(i, x), x, x, {"c": np.zeros(DIM)}, kept[i])
        np.testing.assert_allclose(g, 0, atol=1e-12)


def identity_gradient(i, x):
    return x - B[i]


def test_fednova_removes_the_inconsistency_of_unequal_steps():
    """Wang et al.: FedAvg settles where clients with more steps pull more, whatever lr is.

    FedNova's error falls with lr; halving lr halves it (section 4: the surrogate objective is the
    true one, and what is left is the drift within a round).
    """
    steps, optimum = (1, 2, 3, 5, 8, 13), B.mean(axis=0)

    def error(name, lr, rounds):
        run = simulate(catalog.build(name), rounds, ALL, lr, steps, identity_gradient)
        return np.linalg.norm(run[-1] - optimum)

    coarse, fine = error("fednova", 0.004, 1500), error("fednova", 0.002, 3000)
    assert fine == pytest.approx(coarse / 2, rel=0.05)
    assert fine < 0.01 * np.linalg.norm(optimum)
    # The fixed point of FedAvg for small lr weighs client i by its steps.
    biased = np.average(B, axis=0, weights=steps)
    expected = np.linalg.norm(biased - optimum)
    for lr, rounds in ((0.004, 1500), (0.002, 3000)):
        assert error("fedavg", lr, rounds) == pytest.approx(expected, rel=0.05)
    assert expected > 20 * coarse


def test_fednova_is_equation_6():
    steps, lr = (1, 2, 3, 5, 8, 13), 0.03
    x, trail = np.zeros(DIM), []
    for _ in range(20):
        directions = []
        for i, tau in enumerate(steps):
            y = x.copy()
            for _ in range(tau):
                y = y - lr * gradient(i, y)
            directions.append((x - y) / (lr * tau))
        x = x - lr * np.mean(steps) * np.mean(directions, axis=0)
        trail.append(x)
    ours = simulate(catalog.build("fednova"), 20, ALL, lr, steps)
    np.testing.assert_allclose(ours, trail, rtol=1e-10)


SGD = [(0.0, False), (0.9, False), (0.9, True)]


@pytest.mark.parametrize(("rho", "nesterov"), SGD)
def test_the_weight_of_steps_is_the_sum_of_their_coefficients(rho, nesterov):
    """The last of some steps alone has gradient 1: what it moves w by is its coefficient."""
    for steps in (0, 1, 2, 7):
        total = 0.0
        for k in range(steps):
            w = v = 0.0
            for step in range(steps):
                g = float(step == k)
                v = rho * v - g
                w += rho * v - g if nesterov else v
            total -= w
        assert step_weight(steps, rho, nesterov) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_scaffold_converges_with_client_momentum(nesterov):
    """Dividing by the number of steps K, as without momentum, diverges at round 20."""
    scaffold = catalog.build("scaffold")
    ours = simulate(scaffold, 120, ALL, momentum=(0.9, nesterov))[-1]
    assert np.linalg.norm(ours - OPTIMUM) < 4e-8
    told = (0.0, False)
    by_steps = simulate(scaffold, 20, ALL, momentum=(0.9, nesterov), told=told)[-1]
    assert np.linalg.norm(by_steps - OPTIMUM) > 1e3


@pytest.mark.parametrize("nesterov", [False, True])
def test_fednova_follows_the_clients_momentum(nesterov):
    steps, optimum = (1, 2, 3, 5, 8, 13), B.mean(axis=0)

    def error(told):
        run = simulate(
            catalog.build("fednova"), 3000, ALL, 5e-4, steps, identity_gradient,
            momentum=(0.9, nesterov), told=told,
        )  # fmt: skip
        return np.linalg.norm(run[-1] - optimum) / np.linalg.norm(optimum)

    assert error(None) < 0.019
    assert error((0.0, False)) > 0.153
    # Clients of other programs do not tell: then the option does.
    fixed = catalog.build("fednova", client_momentum=0.9).reducer
    update = Update(0, 1, np.ones(DIM), 5)
    assert fixed.steps(update) == step_weight(5, 0.9)


def test_a_client_that_took_no_step_keeps_its_control_variate():
    rule, own = catalog.build("scaffold").client, {"c": np.ones(DIM)}
    extras, kept = rule.after(np.zeros(DIM), {"c": np.full(DIM, 5.0)}, own, Local(0, 0.1))
    np.testing.assert_array_equal(extras["c"], np.zeros(DIM))
    np.testing.assert_array_equal(kept["c"], np.ones(DIM))


def test_scaffold_needs_one_client_learning_rate():
    rule = catalog.build("scaffold").client
    zeros = {"c": np.zeros(DIM)}
    with pytest.raises(ValueError) as caught:
        rule.after(np.zeros(DIM), zeros, zeros, Local(3, 0.0))
    assert str(caught.value) == (
        "learning_rate of the clients must be one number > 0 for SCAFFOLD, got 0.0"
    )


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("feddyn", {"alpha": 0.0}, "alpha must be > 0, got 0.0"),
        ("scaffold", {"learning_rate": -1}, "learning_rate must be > 0, got -1"),
    ],
)
def test_bad_options(name, options, text):
    with pytest.raises(ValueError) as caught:
        catalog.build(name, **options)
    assert str(caught.value) == text
