// Devices, and their commands and answers as they come. Whatever the API says is shown by
// textContent, never as markup: a device chooses its own name.

const EVERY = 2000;
const COMMANDS = 50;

const $ = (id) => document.getElementById(id);
const names = new Map();

async function read(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" }, cache: "no-store" });
  const body = await response.json();
  if (!response.ok) {
    throw Object.assign(new Error(body.error.message), { status: response.status });
  }
  return body;
}

async function readAll(path) {
  const items = [];
  let next = null;
  do {
    const page = await read(path + (next ? `&cursor=${encodeURIComponent(next)}` : ""));
    items.push(...page.items);
    next = page.next;
  } while (next);
  return items;
}

function element(tag, text, kind) {
  const made = document.createElement(tag);
  made.textContent = text ?? "–";
  if (kind) made.className = kind;
  return made;
}

function when(time) {
  return time ? new Date(time).toLocaleString() : "–";
}

function deviceRow(device) {
  const row = document.createElement("tr");
  row.append(
    element("td", device.name ?? device.user_short_name ?? device.id),
    element("td", device.claims > 0 ? `${device.state}, claimed` : device.state, device.state),
    element("td", device.model_name ?? device.product_name ?? device.type),
    element("td", device.os_version),
    element("td", device.serial_number),
    element("td", when(device.last_seen_at)),
  );
  return row;
}

function showDevices(devices) {
  for (const device of devices) {
    names.set(device.id, device.name ?? device.user_short_name ?? device.id);
  }
  $("devices").replaceChildren(...devices.map(deviceRow));
  $("no-devices").hidden = devices.length > 0;
}

// A command's line is kept, so that one that a person has opened stays open; it is written anew when
// something has changed.
const lines = new Map();

function commandLine(command) {
  const key = `${command.enrollment_id} ${command.uuid}`;
  const state = JSON.stringify([command, names.get(command.enrollment_id)]);
  let line = lines.get(key);
  if (!line) {
    line = { item: document.createElement("li"), details: document.createElement("details") };
    line.item.append(line.details);
    lines.set(key, line);
  }
  if (line.state !== state) {
    line.state = state;
    const title = document.createElement("summary");
    title.append(
      element("span", command.status, command.status),
      element("span", command.request_type),
      element("span", names.get(command.enrollment_id) ?? command.enrollment_id),
      element("span", when(command.answered_at ?? command.sent_at ?? command.queued_at)),
    );
    line.details.replaceChildren(title, element("p", "Request"), json(command.request));
    if (command.error_chain) {
      line.details.append(element("p", "Errors"), json(command.error_chain));
    }
    line.details.append(element("p", "Answer"), json(command.answer));
  }
  return line.item;
}

function json(value) {
  return element("pre", value === null ? "none yet" : JSON.stringify(value, null, 2));
}

function showCommands(commands) {
  const items = commands.map(commandLine);
  const list = $("commands");
  // Only what is new or gone is moved, since moving closes what a person has opened.
  for (const item of [...list.children]) {
    if (!items.includes(item)) item.remove();
  }
  items.forEach((item, index) => {
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
  });
  for (const [key, line] of lines) {
    if (!items.includes(line.item)) lines.delete(key);
  }
  $("no-commands").hidden = commands.length > 0;
}

async function refresh() {
  try {
    const devices = await readAll("/api/v1/enrollments?limit=500");
    showDevices(devices);
    showCommands((await read(`/api/v1/commands?limit=${COMMANDS}`)).items);
    const enrolled = devices.filter((device) => device.state === "enrolled" && device.channel === "device").length;
    $("summary").textContent = `${enrolled} ${enrolled === 1 ? "device" : "devices"} enrolled`;
  } catch (error) {
    if (error.status === 401) {
      location.reload();
      return;
    }
    $("summary").textContent = error.status ? error.message : "The server does not answer; trying again.";
  }
  setTimeout(refresh, EVERY);
}

refresh();
