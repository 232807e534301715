// The index, and what is loaded from the page's folder when it is needed. A page opened from disk
// may not read files, but its script may add others: each file is a call of stepRay.put.
(() => {
  const meta = JSON.parse(document.getElementById("data").textContent);
  const waiting = new Map();
  const loaded = new Map();
  const KEPT = 60; // files of trajectories that stay in memory

  stepRay.meta = meta;
  stepRay.columns = null; // name -> values of all trajectories, in the order of the data

  stepRay.put = (kind, number, value) => {
    const key = `${kind}-${number}`;
    waiting.get(key)?.resolve(value);
    waiting.delete(key);
  };

  stepRay.load = (kind, number) => {
    const key = `${kind}-${number}`;
    if (!loaded.has(key)) {
      const promise = new Promise((resolve, reject) => {
        waiting.set(key, { resolve, reject });
        const script = document.createElement("script");
        script.src = `${meta.folder}/${key}.js`;
        script.addEventListener("load", () => script.remove());
        script.addEventListener("error", () => {
          script.remove();
          loaded.delete(key);
          waiting.delete(key);
          reject(new Error(`${meta.folder}/${key}.js cannot be loaded: it has to lie next to this page. Write the page again with step-ray report.`));
        });
        document.head.append(script);
      });
      loaded.set(key, promise);
      if (loaded.size > KEPT) loaded.delete(loaded.keys().next().value);
    }
    return loaded.get(key);
  };

  // All files of the index, joined as they come in.
  stepRay.loadIndex = async (onPart) => {
    const parts = Array.from({ length: meta.index }, (_, number) => stepRay.load("index", number));
    for (const part of parts) {
      const columns = await part;
      if (!stepRay.columns) stepRay.columns = Object.fromEntries(Object.keys(columns).map((name) => [name, []]));
      for (const [name, values] of Object.entries(columns)) {
        const all = stepRay.columns[name];
        for (const value of values) all.push(value);
      }
      onPart();
    }
  };

  // Everything about the trajectory with a number in the index.
  stepRay.trajectory = async (row) => {
    let number = meta.starts.length - 1;
    while (meta.starts[number] > row) number -= 1;
    const chunk = await stepRay.load("rows", number);
    const found = chunk.rows[row - meta.starts[number]];
    return { ...found, instruction: chunk.instructions[found.instruction] };
  };

  stepRay.group = (row) => meta.groups[stepRay.columns.group[row]];
  stepRay.named = (column, row) => meta.names[column][stepRay.columns[column][row]];
})();
