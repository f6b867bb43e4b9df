// Questions to the studio.

async function answered(response) {
  const value = await response.json().catch(() => ({ refused: { message: `the studio answered ${response.status}`, where: "", hint: "" } }));
  return value;
}

const away = { refused: { message: "the studio does not answer", where: "", hint: "is `presilicon studio` still running?" } };

export async function get(path) {
  try {
    return await answered(await fetch(path));
  } catch {
    return away;
  }
}

export async function post(path, body) {
  try {
    return await answered(await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body ?? {}) }));
  } catch {
    return away;
  }
}

export async function send(path, content) {
  try {
    return await answered(await fetch(path, { method: "POST", headers: { "content-type": "application/octet-stream" }, body: content }));
  } catch {
    return away;
  }
}

// One question at a time; of those asked meanwhile only the last one counts. `shown(answer, milliseconds)` draws it.
export function latest(ask, shown) {
  let busy = false;
  let next = null;
  return async function asked(question, since = performance.now()) {
    if (busy) {
      next = { question, since };
      return;
    }
    busy = true;
    const answer = await ask(question);
    busy = false;
    if (next) {
      const { question: q, since: s } = next;
      next = null;
      shown(answer, since, question);
      asked(q, s);
    } else shown(answer, since, question);
  };
}
