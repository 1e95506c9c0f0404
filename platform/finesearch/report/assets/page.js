"use strict";
// Draws the figures in the colours of the page's style sheet, and draws them again when those change.
(function () {
  const page = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;
  const touch = matchMedia("(pointer: coarse)").matches;
  const narrow = () => innerWidth < 700;

  function colour(name) {
    return getComputedStyle(root).getPropertyValue("--" + name).trim();
  }

  function coloured(value) {
    if (typeof value === "string") return value.startsWith("var:") ? colour(value.slice(4)) : value;
    if (Array.isArray(value)) return typeof value[0] === "object" ? value.map(coloured) : value;
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, coloured(inner)]));
  }

  function labelled(trace) {
    if (!trace.customdata) return trace;
    const numbers = trace.customdata;
    return Object.assign({}, trace, { customdata: numbers.map((number) => [number, page.labels[number] || ""]) });
  }

  function axis(given) {
    const lines = { gridcolor: colour("grid"), linecolor: colour("faint"), zerolinecolor: colour("faint") };
    const title = Object.assign({ standoff: 8 }, given && given.title);
    return Object.assign({ automargin: true, zeroline: false }, lines, given, { title });
  }

  function layout(figure) {
    const given = coloured(figure.layout);
    const base = {
      height: figure.height,
      margin: { l: narrow() ? 44 : 56, r: 12, t: given.showlegend === false ? 26 : 8, b: 40 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("soft") },
      hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("faint"), font: { color: colour("ink") }, align: "left" },
      hovermode: "closest",
      // A finger that drags means to scroll the page.
      dragmode: touch ? false : "zoom",
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("faint"), activecolor: colour("soft") },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 } },
      showlegend: true,
    };
    return Object.assign(base, given, { xaxis: axis(given.xaxis), yaxis: axis(given.yaxis) });
  }

  const config = {
    displaylogo: false,
    displayModeBar: touch ? false : "hover",
    responsive: true,
    modeBarButtons: [["toImage", "resetScale2d"]],
    showTips: false,
  };

  function draw(figure) {
    const place = document.getElementById("figure-" + figure.key);
    const printed = root.classList.contains("print");
    const scrolls = figure.layout.meta && figure.layout.meta.scrolls;
    if (scrolls) place.style.minWidth = printed ? "0" : scrolls + "px";
    // Paper has the width that the style sheet gives it; Plotly would still know the window's.
    const size = printed ? { width: place.parentElement.clientWidth } : { autosize: true };
    const traces = figure.traces.map((trace) => coloured(labelled(trace)));
    return Plotly.react(place, traces, Object.assign(layout(figure), size), config);
  }

  // Started all at once and not one after the other: a page that is about to be printed does not wait.
  async function drawAll() {
    const drawings = page.figures.map(draw);
    await Promise.all(drawings);
    root.dataset.figuresDrawn = String(drawings.length);
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  addEventListener("beforeprint", () => {
    root.classList.add("print");
    for (const details of document.querySelectorAll("details.prints")) details.open = true;
    drawAll();
  });
  addEventListener("afterprint", () => {
    root.classList.remove("print");
    drawAll();
  });
  drawAll();
})();
