// Keeps the figures of the page up to date. The figures come once every two seconds over one stream; text is set as text.
"use strict";
(() => {
  const POLL_MS = 15_000;
  const SILENT_MS = 10_000;
  const HISTORY_MS = 60_000;
  const find = (id) => document.getElementById(id);

  // As in render.rs.
  const count = (value) => Math.round(value).toLocaleString("en-US");
  const rate = (value) => (value > 0 && value < 9.95 ? value.toFixed(1) : count(value));
  const megabits = (bits) => {
    const value = bits / 1e6;
    return value > 0 && value < 0.995 ? value.toFixed(2) : rate(value);
  };

  const put = (name, text) => {
    for (const node of document.querySelectorAll(`[data-f="${name}"]`)) {
      if (node.textContent !== text) node.textContent = text;
    }
  };
  const cell = (kind, text, className) => {
    const node = document.createElement(kind);
    if (className) node.className = className;
    if (kind === "th") node.scope = "row";
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const bar = () => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const set = (node, attributes) => Object.entries(attributes).forEach((pair) => node.setAttribute(...pair));
    set(svg, { class: "bar", viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" });
    for (const kind of ["members", "online"]) {
      const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      set(rect, { class: kind, height: "1", width: "0" });
      svg.append(rect);
    }
    return svg;
  };

  // Rows are kept and changed, so that a selection or a screen reader's place stays where it is.
  const rows = (body, items, make, fill) => {
    while (body.rows.length > items.length) body.lastElementChild.remove();
    while (body.rows.length < items.length) body.append(make());
    items.forEach((item, index) => fill(body.rows[index], item));
  };
  const text = (node, value) => {
    if (node.textContent !== value) node.textContent = value;
  };

  const groupRow = () => {
    const row = document.createElement("tr");
    const name = cell("th");
    name.append(document.createElement("bdi"));
    const holder = cell("td", undefined, "bar-cell");
    holder.append(bar());
    row.append(name, holder, cell("td", "", "number"), cell("td", "", "number of"));
    return row;
  };
  const showGroups = (status) => {
    const longest = Math.max(1, ...status.groups.map((group) => group.members));
    rows(find("groups"), status.groups, groupRow, (row, group) => {
      text(row.querySelector("bdi"), group.name);
      const [members, online] = row.querySelectorAll("rect");
      members.setAttribute("width", ((group.members / longest) * 100).toFixed(2));
      online.setAttribute("width", ((group.online / longest) * 100).toFixed(2));
      text(row.cells[2], count(group.online));
      text(row.cells[3], count(group.members));
    });
    const sum = (of, one, many) => of.groups && `${count(of.groups)} ${of.groups === 1 ? one : many} with ${count(of.online)} online`;
    const parts = [
      sum(status.more_groups, "more open group", "more open groups"),
      sum(status.private_groups, "private group", "private groups"),
    ].filter(Boolean);
    put("unnamed", parts.length ? `And ${parts.join(", ")}.` : "");
    put("group_count", count(status.groups.length + status.more_groups.groups + status.private_groups.groups));
  };

  const showPaths = (paths) => {
    const known = paths.direct_share !== null;
    put("share", known ? `${(paths.direct_share * 100).toFixed(0)}\u2009%` : "not reported");
    const agents = paths.reporting === 1 ? "agent reports" : "agents report";
    put("direct", count(paths.direct));
    put("relayed", count(paths.relayed));
    put("share_note", paths.reporting ? `Peers, as ${count(paths.reporting)} ${agents} them.` : "No agent reports how it reaches its peers.");
    document.querySelectorAll(".share").forEach((node) => node.toggleAttribute("hidden", !known));
    find("direct-bar").setAttribute("width", ((paths.direct_share || 0) * 100).toFixed(2));
  };

  // What narrow screens show beside each figure.
  const LABELS = ["Shard", "CPU", "Sessions", "Packets/s", "Mbit/s", "Drops/s", "Kernel drops"];
  const showRelay = (relay) => {
    document.querySelectorAll(".relay").forEach((node) => (node.hidden = !relay));
    if (!relay) return;
    put("bits", megabits(relay.bits_per_second));
    put("packets", rate(relay.packets_per_second));
    const make = () => {
      const row = document.createElement("tr");
      row.append(cell("th"), ...Array.from({ length: 6 }, () => cell("td")));
      LABELS.forEach((label, index) => (row.cells[index].dataset.label = label));
      return row;
    };
    rows(find("shards"), relay.shards, make, (row, shard) => {
      const cpu = shard.cpu === null ? "–" : String(shard.cpu);
      [
        String(shard.shard), cpu, count(shard.sessions), rate(shard.packets_per_second),
        megabits(shard.bits_per_second), rate(shard.drops_per_second), count(shard.kernel_drops),
      ].forEach((value, index) => text(row.cells[index], value));
      row.cells[5].classList.toggle("hot", shard.drops_per_second >= 1);
    });
  };

  // The past: points [time, online, packets/s, bit/s].
  let past = null;
  const RANGES = { recent: { span: 600, gap: 10, said: "last 10 minutes" }, day: { span: 86_400, gap: 900, said: "last 24 hours" } };
  const FIGURES = {
    bits: { column: 3, scale: 1e-6, unit: "Mbit/s", format: (value) => megabits(value * 1e6) },
    packets: { column: 2, scale: 1, unit: "packets/s", format: rate },
  };
  const charts = {
    online: new Chart(find("online-chart"), { height: 104, spark: true, format: count, unit: "agents", title: "Agents online" }),
    traffic: new Chart(find("traffic-chart"), { height: 220, title: "Relayed traffic" }),
    growth: new Chart(find("growth-chart"), { height: 168, whole: true, format: count, unit: "registered nodes", title: "Growth" }),
  };
  const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

  const showCharts = () => {
    if (!past) return;
    const [range, figure] = [chosen("range"), FIGURES[chosen("figure")]];
    const { span, gap, said } = RANGES[range];
    const points = past[range].map((point) => [point[0], point[figure.column] * figure.scale]);
    charts.traffic.show({ points, from: past.at - span, to: past.at, gap, caption: said, unit: figure.unit, format: figure.format });
    const kept = past.day.length > 30 ? "day" : "recent";
    const online = past[kept].map((point) => [point[0], point[1]]);
    const latest = past.recent[past.recent.length - 1];
    if (kept === "day" && latest) online.push([latest[0], latest[1]]);
    const from = kept === "day" && online.length ? Math.max(past.at - 86_400, online[0][0]) : past.at - 600;
    charts.online.show({ points: online, from, to: past.at, gap: RANGES[kept].gap, caption: RANGES[kept].said });
    const hours = past.growth.map((hour) => [hour[0], hour[1]]);
    if (hours.length) hours.push([past.at, past.registered || hours[hours.length - 1][1]]);
    const first = hours.length ? hours[0][0] : past.at;
    const days = Math.max(1, Math.round((past.at - first) / 86_400));
    const caption = days > 1 ? `registered nodes, last ${days} days` : "registered nodes, last 24 hours";
    charts.growth.show({ points: hours, from: Math.min(first, past.at - 86_400), to: past.at, gap: Infinity, caption });
  };

  const getJson = async (path) => {
    const response = await fetch(path, { cache: "no-store" });
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    return response.json();
  };
  const loadHistory = async () => {
    try {
      const loaded = await getJson("/status/history.json");
      past = { registered: past && past.registered, ...loaded };
      showCharts();
    } catch {
      // The stream says that the connection is lost; the next load is a minute away.
    }
  };

  let heard = 0;
  const setState = (state, said) => {
    if (find("state").dataset.state !== state) find("state").dataset.state = state;
    text(find("state-text"), said);
    const online = document.querySelector('[data-f="online"]').textContent;
    document.title = state === "lost" ? "Connection lost · Pilot network" : `${online} online · Pilot network`;
  };
  const show = (status, state, said) => {
    heard = performance.now();
    put("online", count(status.nodes.online));
    put("registered", count(status.nodes.registered));
    put("capable", count(status.nodes.capable));
    showGroups(status);
    showPaths(status.paths);
    showRelay(status.relay);
    setState(state, said);
    if (!past) return;
    past.at = status.at;
    past.registered = status.nodes.registered;
    const relay = status.relay || { packets_per_second: 0, bits_per_second: 0 };
    const point = [status.at, status.nodes.online, relay.packets_per_second, relay.bits_per_second];
    const newest = past.recent[past.recent.length - 1];
    if (!newest || newest[0] < status.at) past.recent.push(point);
    while (past.recent.length > 300) past.recent.shift();
    showCharts();
  };

  // All places for live viewers may be taken: then this page asks now and then.
  const poll = async () => {
    try {
      show(await getJson("/status.json"), "polling", "Every 15 s");
    } catch {
      setState("lost", "Connection lost");
    }
    setTimeout(follow, POLL_MS);
  };
  const follow = () => {
    const stream = new EventSource("/status/events");
    stream.addEventListener("status", (event) => show(JSON.parse(event.data), "live", "Live"));
    stream.addEventListener("error", () => {
      if (stream.readyState !== EventSource.CLOSED) return setState("lost", "Connection lost");
      poll();
    });
  };
  setInterval(() => {
    if (heard && find("state").dataset.state === "live" && performance.now() - heard > SILENT_MS) setState("lost", "Connection lost");
  }, 2000);

  document.querySelectorAll(".script").forEach((node) => (node.hidden = false));
  document.querySelectorAll(".switches input").forEach((input) => input.addEventListener("change", showCharts));
  setState("snapshot", "Connecting");
  loadHistory();
  setInterval(loadHistory, HISTORY_MS);
  follow();
})();
