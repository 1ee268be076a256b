// Interactive curves: reads the packed data and plotly.js out of the page, and asks for nothing else.
(() => {
  const root = document.getElementById("curves");
  if (!root) return;
  const find = (name) => root.querySelector(`[data-part="${name}"]`);
  const status = find("status"), plot = find("plot");

  // ---- Statistics: those of analysis.summarise.curve, of the seeds that are chosen ----

  const mean = (values) => values.reduce((sum, v) => sum + v, 0) / values.length;

  // The points of one strategy: for each round the mean over its seeds, its band and their number.
  const curve = (data, runs, metric, axis) => {
    const ends = runs.map((run) => run.end).filter((end) => end !== null);
    const limit = Math.min(...ends, Infinity);  // what follows would be the mean of those that went well
    const rounds = new Map();
    for (const run of runs) {
      const ys = run[metric.key], kept = data.kept[run.rounds];
      const xs = axis.key === "round" ? kept : run[axis.key];
      if (!ys || !xs) continue;
      kept.forEach((round, i) => {
        if (round > limit || ys[i] === null || xs[i] === null) return;
        if (!rounds.has(round)) rounds.set(round, new Map());
        const seeds = rounds.get(round);
        if (!seeds.has(run.seed)) seeds.set(run.seed, []);
        seeds.get(run.seed).push([xs[i], ys[i]]);
      });
    }
    const points = [...rounds.entries()].sort((a, b) => a[0] - b[0]).map(([round, seeds]) => {
      const each = [...seeds.values()];
      const ys = each.map((pairs) => mean(pairs.map((p) => p[1])));
      const x = mean(each.map((pairs) => mean(pairs.map((p) => p[0]))));
      return { round, x, y: mean(ys), n: ys.length, ...ends_of(ys, data) };
    });
    return points.some((p) => p.x > 0) ? points.map((p) => cut(p, metric)) : [];
  };

  const ends_of = (ys, data) => {
    const middle = mean(ys), n = ys.length;
    if (n < 2) return { low: middle, high: middle };
    if (data.band === "minmax") return { low: Math.min(...ys), high: Math.max(...ys) };
    const deviation = Math.sqrt(ys.reduce((sum, y) => sum + (y - middle) ** 2, 0) / (n - 1));
    const error = deviation / Math.sqrt(n);
    const half = { sd: deviation, se: error, ci: data.quantiles[n] * error }[data.band];
    return { low: middle - half, high: middle + half };
  };

  // A band ends where the measure does: fractions lie in [0, 1], losses are not negative.
  const cut = (point, metric) => ({
    ...point,
    low: metric.low === null ? point.low : Math.max(point.low, metric.low),
    high: metric.high === null ? point.high : Math.min(point.high, metric.high),
  });

  // ---- What is drawn ----

  const start = (data) => {
    const state = {
      metric: 0, axis: 0, setting: 0, logX: false, logY: false, band: true, each: false,
      labels: new Set(data.labels.keys()), seeds: new Set(data.seeds),
    };
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const colour = (label) => data.labels[label][dark.matches ? "dark" : "light"];
    const number = (value, share) => {
      if (share) return value.toFixed(2);
      const size = Math.abs(value);
      if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
      return value.toLocaleString("en", { maximumSignificantDigits: 4 });
    };
    // plotly.js reads some HTML and templates in texts; a strategy's name is neither.
    const plain = (text) => text.replace(/[&<>%]/g, (sign) => `&#${sign.charCodeAt(0)};`);
    const pale = (hex, part) =>
      `rgba(${[1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)).join(",")},${part})`;

    const chosen = () =>
      data.settings[state.setting].runs.map((i) => data.runs[i]).filter((run) => state.seeds.has(run.seed));

    const narrow = () => plot.clientWidth < 560;

    const traces = () => {
      const metric = data.metrics[state.metric], axis = data.axes[state.axis], drawn = [];
      const runs = chosen(), unit = metric.share ? " %" : "";
      const common = { mode: "lines", type: "scatter", connectgaps: true };
      data.labels.forEach((label, place) => {
        if (!state.labels.has(place)) return;
        const mine = runs.filter((run) => run.label === place);
        const points = curve(data, mine, metric, axis);
        if (!points.length) return;
        const hue = colour(place), y = (v) => v / metric.divisor, x = points.map((p) => p.x / axis.divisor);
        const least = Math.min(...points.map((p) => p.y).filter((v) => v > 0)) / 100;
        const shown = (v) => y(state.logY ? Math.max(v, least) : v);
        if (state.band && points.some((p) => p.n > 1)) {
          const edge = { ...common, x, hoverinfo: "skip", line: { width: 0, color: hue } };
          drawn.push({ ...edge, y: points.map((p) => shown(p.low)), name: `${label.name}: low` });
          drawn.push({ ...edge, y: points.map((p) => shown(p.high)), name: `${label.name}: high`,
            fill: "tonexty", fillcolor: pale(hue, 0.16) });
        }
        if (state.each) {
          for (const run of mine) {
            const part = curve(data, [run], metric, axis);
            drawn.push({ ...common, x: part.map((p) => p.x / axis.divisor), y: part.map((p) => y(p.y)),
              name: `${label.name}, seed ${run.seed}`, opacity: 0.55, line: { width: 1, color: hue },
              hovertemplate: `%{y:.4~r}${unit}<extra>${plain(label.name)}, seed ${run.seed}</extra>` });
          }
        }
        const told = (v) => number(y(v), metric.share);
        const text = points.map((p) => {
          const at = axis.key === "round" ? "" : `, round ${p.round}`;
          const range = p.high > p.low && !narrow() ? ` [${told(p.low)}, ${told(p.high)}]` : "";
          return `<b>${told(p.y)}${unit}</b>${range}${at}`;
        });
        const end = mine.some((run) => run.end !== null) ? [points.length - 1] : [];
        drawn.push({ ...common, x, y: points.map((p) => y(p.y)), name: label.name, customdata: text,
          mode: end.length || points.length === 1 ? "lines+markers" : "lines",
          marker: { color: hue, symbol: "x", size: points.map((_, i) =>
            end.includes(i) || points.length === 1 ? 9 : 0) },
          hovertemplate: `%{customdata}<extra>${plain(label.name)}</extra>`,
          line: { width: 2, color: hue, dash: label.dash } });
      });
      const places = drawn.flatMap((trace) => trace.x).filter((x) => !state.logX || x > 0);
      for (const one of data.settings[state.setting].reported) {
        if (one.metric !== metric.key || !places.length) continue;
        const value = one.value / metric.divisor;
        drawn.push({ ...common, x: [Math.min(...places), Math.max(...places)], y: [value, value],
          name: `${one.label}, as reported`, line: { width: 1.5, color: style("--soft"), dash: "longdashdot" },
          hovertemplate: `<b>${number(value, metric.share)}${unit}</b> ${plain(one.source)}`
            + `<extra>${plain(one.label)}, as reported</extra>` });
      }
      return drawn;
    };

    const layout = () => {
      const ink = style("--ink"), line = style("--line");
      const both = { color: ink, gridcolor: line, zerolinecolor: line, linecolor: style("--soft"),
        automargin: true, ticks: "outside", tickcolor: line, tickfont: { size: 12 } };
      const metric = data.metrics[state.metric], axis = data.axes[state.axis];
      const title = (text) => ({ text, font: { size: 13 }, standoff: 10 });
      return {
        font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        height: narrow() ? 360 : 460, margin: { l: 12, r: 12, t: 34, b: 12 }, showlegend: false,
        xaxis: { ...both, title: title(axis.title), type: state.logX ? "log" : "linear",
          spikecolor: style("--soft"), spikethickness: 1, spikedash: "dot",
          unifiedhovertitle: { text: axis.key === "round" ? "Round %{x}" : `${axis.title}: %{x:.4~g}` } },
        yaxis: { ...both, title: title(metric.title), type: state.logY ? "log" : "linear" },
        legend: { traceorder: "normal" }, hovermode: "x unified", hoverdistance: -1, hoverlabel: { bgcolor: style("--card"), bordercolor: style("--line"),
          font: { size: 12, color: ink, family: getComputedStyle(document.body).fontFamily }, namelength: -1 },
        // A finger scrolls the page; the buttons zoom.
        dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
        modebar: { bgcolor: "rgba(0,0,0,0)", color: style("--soft"), activecolor: ink },
        uirevision: [state.metric, state.axis, state.setting, state.logX, state.logY].join(),
      };
    };

    const config = { displaylogo: false, displayModeBar: true, responsive: true, showTips: false,
      modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]] };

    const draw = () => {
      const drawn = traces();
      status.hidden = drawn.length > 0;
      status.textContent = drawn.length ? "" : "Nothing to draw: no strategy and seed that is chosen has this.";
      return Plotly.react(plot, drawn, layout(), config);
    };

    // ---- Controls ----

    const choice = (name, items, change) => {
      const select = find(name);
      select.append(...items.map((text, i) => new Option(text, i)));
      select.closest("label").hidden = items.length < 2;
      select.addEventListener("change", () => { change(Number(select.value)); there(); draw(); });
    };
    const toggle = (button, key) => {
      button.setAttribute("aria-pressed", state[key]);
      button.addEventListener("click", () => {
        state[key] = !state[key];
        button.setAttribute("aria-pressed", state[key]);
        draw();
      });
    };
    const chips = (name, keys, set, make) => {
      const box = find(name), buttons = new Map();
      const show = () => buttons.forEach((b, key) => b.setAttribute("aria-pressed", set.has(key)));
      for (const key of keys) {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "chip";
        make(button, key);
        button.addEventListener("click", () => { set.has(key) ? set.delete(key) : set.add(key); show(); draw(); });
        button.addEventListener("dblclick", () => {  // alone, and all again
          const alone = set.size === 1 && set.has(key);
          for (const other of keys) alone || other === key ? set.add(other) : set.delete(other);
          show();
          draw();
        });
        buttons.set(key, button);
        box.append(button);
      }
      box.closest(".row").hidden = keys.length < 2;
      show();
      return buttons;
    };

    choice("metric", data.metrics.map((m) => m.name), (i) => { state.metric = i; });
    choice("axis", data.axes.map((a) => a.name), (i) => { state.axis = i; });
    choice("setting", data.settings.map((s) => s.name), (i) => { state.setting = i; });
    for (const button of root.querySelectorAll("[data-toggle]")) toggle(button, button.dataset.toggle);
    const lineOf = (dash) =>
      '<svg width="28" height="10" aria-hidden="true"><line x1="1" x2="27" y1="5" y2="5" stroke="currentColor" '
      + `stroke-width="2.5" stroke-dasharray="${dash === "solid" ? "none" : dash.replaceAll("px", "")}"/></svg>`;
    const names = chips("labels", [...data.labels.keys()], state.labels, (button, i) => {
      button.innerHTML = lineOf(data.labels[i].dash);
      button.append(data.labels[i].name);
    });
    chips("seeds", data.seeds, state.seeds, (button, seed) => { button.textContent = seed; });

    // Strategies that this setting lacks have no button.
    const there = () => {
      const mine = new Set(data.settings[state.setting].runs.map((i) => data.runs[i].label));
      names.forEach((button, i) => { button.hidden = !mine.has(i); });
    };
    const paint = () => names.forEach((button, i) => {
      button.querySelector("svg").style.color = colour(i);
    });
    dark.addEventListener("change", () => { paint(); draw(); });
    paint();
    there();
    find("controls").hidden = false;
    return draw();
  };

  const begin = async () => {
    const [text, code] = await Promise.all([unpack("curves-data"), unpack("curves-library")]);
    const script = document.createElement("script");
    script.textContent = code;
    document.head.append(script);
    await start(JSON.parse(text));
    root.dataset.ready = "yes";
  };
  if (typeof DecompressionStream === "undefined") {
    status.textContent = "This browser is too old for interactive curves; the figures below show the same.";
    return;
  }
  begin().catch((error) => {
    status.hidden = false;
    status.textContent = "The interactive curves could not be drawn; the figures below show the same.";
    console.error(error);
  });
})();
