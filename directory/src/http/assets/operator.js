// The operator view. Everything that nodes say of themselves is set as text, never as HTML.
"use strict";
(() => {
  const STEP_MS = 2000;
  const find = (id) => document.getElementById(id);
  const count = (value) => Math.round(value).toLocaleString("en-US");
  const rate = (value) => (value > 0 && value < 9.95 ? value.toFixed(1) : count(value));
  const make = (kind, text, className) => {
    const node = document.createElement(kind);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const name = (text) => {
    const node = make("bdi", text);
    return node;
  };
  const table = (body, items, cells) => {
    const made = items.map((item) => {
      const row = make("tr");
      cells(item).forEach(([text, className], index) => {
        const cell = make(index ? "td" : "th", undefined, className);
        if (!index) cell.scope = "row";
        cell.append(name(text));
        row.append(cell);
      });
      return row;
    });
    body.replaceChildren(...made);
  };

  const getJson = async (path) => {
    const response = await fetch(path, { cache: "no-store" });
    // The session has ended: the page asks for the token.
    if (response.status === 401) location.reload();
    const json = await response.json();
    if (!response.ok) throw new Error(json.error || `error ${response.status}`);
    return json;
  };

  const ago = (seconds) => {
    if (seconds < 120) return `${Math.max(0, Math.round(seconds))} s ago`;
    if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
    return seconds < 172_800 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86_400)} days ago`;
  };
  const bytes = (value) => {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let index = 0;
    for (; value >= 1000 && index < units.length - 1; index += 1) value /= 1000;
    return `${rate(value)} ${units[index]}`;
  };
  const MAPPINGS = ["not told", "no NAT", "endpoint-independent", "could not be told", "address-dependent", "address- and port-dependent (symmetric)"];
  const FILTERINGS = ["not told", "endpoint-independent", "endpoint-independent or address-dependent", "address-dependent", "address- and port-dependent (port-restricted)"];
  const GRADES = ["not proven to the directory", "proven to the directory", "signed for by the node"];
  const WEIGHTS = { prevents: "Prevents a direct path", hinders: "Hinders a direct path", unknown: "Not known", clear: "Speaks for a direct path" };

  const pairs = (list) => {
    const all = make("dl", undefined, "pairs");
    for (const [term, value] of list) {
      if (value === null || value === undefined || value === "") continue;
      const pair = make("div");
      const described = make("dd");
      described.append(name(String(value)));
      pair.append(make("dt", term), described);
      all.append(pair);
    }
    return all;
  };

  const nodeCard = ({ node, relay, why }, now) => {
    const card = make("article", undefined, "card node");
    const head = make("header");
    const title = make("h3");
    title.append(name(node.hostname || `Node ${node.node_id}`));
    head.append(title, make("span", node.address, "quiet"));
    if (node.standing !== "approved") head.append(make("span", node.standing, "badge"));
    head.append(make("span", node.online ? "online" : "offline", node.online ? "badge on" : "badge"));
    card.append(head);

    card.append(make("h4", "Why is it relayed?"));
    const reasons = make("ul", undefined, "why");
    for (const reason of why) {
      const item = make("li", undefined, reason.weight);
      item.append(make("b", WEIGHTS[reason.weight] || reason.weight), document.createTextNode(reason.text));
      reasons.append(item);
    }
    card.append(reasons);

    card.append(make("h4", "At the relay"));
    card.append(
      relay
        ? pairs([
            ["Session", relay.endpoint || "none"],
            ["Shard", relay.shard],
            ["Address of the session", GRADES[relay.grade]],
            ["Heard", relay.heard_seconds_ago === null ? null : ago(relay.heard_seconds_ago)],
          ])
        : make("p", "The relay of this process knows nothing of it, or there is none.", "note"),
    );

    card.append(make("h4", "In the directory"));
    const report = node.report;
    card.append(
      pairs([
        ["Number", node.node_id],
        ["Registered endpoint", node.endpoint + (node.endpoint_follows ? " (host of its connection)" : "")],
        ["Proven addresses", node.proven.join(", ")],
        ["Last seen", node.last_seen === null ? null : ago(now - node.last_seen)],
        ["Visibility", node.public ? "public" : "private"],
        ["Groups", node.groups.join(", ")],
        ["Tags", node.tags.join(", ")],
        ["Capability", node.capability],
        ["Version", node.version],
        ["NAT mapping", report && (MAPPINGS[report.nat_mapping] || report.nat_mapping)],
        ["NAT filtering", report && (FILTERINGS[report.nat_filtering] || report.nat_filtering)],
        ["Peers", report && `${count(report.direct)} direct, ${count(report.relayed)} relayed`],
        ["Sent", report && `${bytes(report.direct_bytes)} direct, ${bytes(report.relayed_bytes)} relayed`],
      ]),
    );

    if (relay && relay.events.length) {
      card.append(make("h4", "Last control events"));
      const events = make("table", undefined, "events");
      const body = make("tbody");
      for (const event of [...relay.events].reverse()) {
        const row = make("tr");
        const when = make("th");
        when.scope = "row";
        const time = make("time", new Date(event.at_ms).toLocaleTimeString([], { hour12: false }));
        time.dateTime = new Date(event.at_ms).toISOString();
        when.append(time);
        const [what, detail] = [make("td"), make("td")];
        what.append(name(event.what));
        detail.append(name(event.detail));
        row.append(when, what, detail);
        body.append(row);
      }
      events.append(body);
      card.append(events);
    }
    return card;
  };

  const search = async (text) => {
    const note = find("found-note");
    note.textContent = "Searching …";
    try {
      const { found, more, now } = await getJson(`/operator/nodes.json?q=${encodeURIComponent(text)}`);
      find("found").replaceChildren(...found.map((item) => nodeCard(item, now)));
      const nodes = found.length === 1 ? "1 node" : `${found.length} nodes`;
      note.textContent = found.length ? nodes + (more ? " shown, there are more: search for something longer." : "") : "No node has that.";
    } catch (error) {
      find("found").replaceChildren();
      note.textContent = error.message;
    }
  };

  const setState = (state, said) => {
    if (find("state-text").textContent === said) return;
    find("state").dataset.state = state;
    find("state-text").textContent = said;
  };
  const show = ({ overview, relay, drops }) => {
    table(find("drops"), drops || [], (drop) => [
      [drop.reason.replaceAll("_", " ")],
      [rate(drop.per_second), drop.per_second >= 1 ? "number hot" : "number"],
      [count(drop.total), "number of"],
    ]);
    find("drops-note").textContent = drops ? "" : "There is no relay in this process, or it has just begun.";
    table(find("shards"), relay ? relay.shards : [], (shard) => [
      [shard.cpu === null ? String(shard.shard) : `${shard.shard} on CPU ${shard.cpu}`],
      [count(shard.sessions), "number"],
      [rate(shard.packets_per_second), "number"],
      [rate(shard.drops_per_second), "number"],
    ]);
    table(find("groups"), overview.groups, (group) => [
      [group.name],
      [String(group.id), "of"],
      [group.join_rule],
      [count(group.online), "number"],
      [count(group.members), "number of"],
    ]);
  };
  const follow = async () => {
    try {
      show(await getJson("/operator/status.json"));
      setState("live", "Live");
    } catch {
      setState("lost", "Connection lost");
    }
    setTimeout(follow, STEP_MS);
  };

  find("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = find("q").value.trim();
    if (!text) return;
    history.replaceState(null, "", `/operator?q=${encodeURIComponent(text)}`);
    search(text);
  });
  const asked = new URLSearchParams(location.search).get("q");
  if (asked) {
    find("q").value = asked;
    search(asked);
  }
  follow();
})();
