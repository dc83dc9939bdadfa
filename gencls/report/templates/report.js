"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Tables: a click on a head sorts, a second one the other way round; what was not run stays last.
  function sort(table, head) {
    const column = head.cellIndex;
    const text = head.querySelector(".sort").classList.contains("text");
    const before = head.getAttribute("aria-sort");
    const down = before === "none" ? !text : before === "ascending";
    all("th[aria-sort]", table).forEach((th) => th.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.v;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = text ? x.localeCompare(y, "en", { numeric: true }) : Number(x) - Number(y);
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  }
  all("table.sortable").forEach((table) =>
    all("th[aria-sort]", table).forEach((head) =>
      head.querySelector(".sort").addEventListener("click", () => sort(table, head))));

  // Curves: every data source keeps all its rows; those of what is switched off are left out.
  const NAMES = ["bands", "bars", "lines", "points"];
  const drawn = {}; // element id -> [{source, rows}]
  function remember(id, plot) {
    const sources = new Set(plot.renderers.map((r) => r.data_source).filter((s) => NAMES.includes(s.name)));
    drawn[id] = [...sources].map((source) => ({ source, rows: { ...source.data } }));
  }
  function filter({ source, rows }, on) {
    const model = rows.model || [];
    const keep = [...model.keys()].filter((i) => on.model.has(model[i]) && on.attack.has(rows.attack[i]));
    source.data = Object.fromEntries(Object.entries(rows).map(([k, v]) => [k, keep.map((i) => v[i])]));
  }
  function show(group) {
    const on = { model: new Set(), attack: new Set() };
    all("input[type=checkbox]", group).forEach((box) => box.checked && on[box.name].add(box.value));
    for (const [id, sources] of Object.entries(drawn)) {
      if (!group.contains(document.getElementById(id))) continue;
      const own = id.endsWith("-roc") ? { model: on.model, attack: { has: () => true } } : on;
      sources.forEach((each) => filter(each, own));
    }
    all(".switched tbody tr, .gallery, .attacked", group).forEach((each) => {
      const { model, attack } = each.dataset;
      const seen = each.closest(".switched") || each.matches(".attacked") ? on.attack : null;
      each.hidden = !on.model.has(model) ||
        Boolean(attack && seen && !seen.has(attack) && !(each.matches(".attacked") && onlyWorst(on)));
    });
  }
  // The worst case has no images of its own: alone, it shows those of every attack.
  const onlyWorst = (on) => on.attack.size === 1 && on.attack.has("worst case");
  all(".switches").forEach((form) => {
    const group = form.closest(".group");
    form.addEventListener("change", () => show(group));
    form.addEventListener("submit", (event) => event.preventDefault());
    all(".all", form).forEach((button) => button.addEventListener("click", () => {
      const boxes = all(`input[name=${button.dataset.name}]`, form);
      const on = boxes.some((box) => !box.checked);
      boxes.forEach((box) => { box.checked = on; });
      show(group);
    }));
  });

  // Plots take the colours of the page, light or dark.
  function paint(plot) {
    const ink = css("--ink"), quiet = css("--quiet"), line = css("--line");
    const font = "system-ui, sans-serif";
    for (const axis of [...plot.below, ...plot.left]) {
      axis.setv({
        axis_label_text_color: quiet, axis_label_text_font: font, axis_label_text_font_style: "normal",
        axis_label_text_font_size: "13px", major_label_text_color: ink, major_label_text_font: font,
        major_label_text_font_size: "12px", axis_line_color: quiet, major_tick_line_color: quiet,
        minor_tick_line_color: null, major_tick_in: 0,
      });
    }
    for (const each of plot.center) if ("grid_line_color" in each) each.setv({ grid_line_color: line });
  }
  async function draw() {
    const items = JSON.parse(document.getElementById("plots").textContent);
    const plots = [];
    for (const [id, item] of Object.entries(items)) {
      await Bokeh.embed.embed_item(item, id);
      const plot = Bokeh.documents.at(-1).roots()[0];
      plots.push(plot);
      remember(id, plot);
    }
    plots.forEach(paint);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.forEach(paint));
    all(".group").forEach(show);
    for (const each of Bokeh.documents) {
      if (!each.is_idle) await new Promise((done) => each.idle.connect(done));
    }
    document.documentElement.dataset.ready = Math.round(performance.now());
  }

  // Images: a click enlarges the clean image, the adversarial one and what lies between.
  const zoom = document.getElementById("zoom");
  document.addEventListener("click", (event) => {
    const tile = event.target.closest(".tile");
    if (event.target === zoom) zoom.close();
    if (!tile) return;
    const column = `[data-column="${tile.dataset.column}"]`;
    const attacked = tile.closest(".attacked");
    const shown = [tile.closest(".gallery").querySelector(`${column}[data-kind=clean]`)];
    if (attacked) shown.push(...all(column, attacked));
    zoom.querySelector(".zoomed").replaceChildren(...shown.filter(Boolean).map((each) => {
      const figure = document.createElement("figure"), image = document.createElement("img");
      image.src = each.querySelector("img").src;
      image.alt = each.getAttribute("aria-label");
      figure.append(image, each.dataset.kind);
      return figure;
    }));
    const named = attacked ? attacked.querySelector(`${column}[data-kind=adversarial]`) : tile;
    zoom.querySelector(".caption").textContent = named.getAttribute("aria-label");
    zoom.showModal();
  });

  // A link into folded sources unfolds them.
  function unfold() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const folded = target && target.closest("details");
    if (folded) { folded.open = true; target.scrollIntoView({ block: "center" }); }
  }
  addEventListener("hashchange", unfold);
  unfold();
  draw();
})();
