// Draws the attention views of a notebook page with BertViz's code, once that code is here.
// Called with the packed library: base64 of a gzip file, data/scripts/attention_views.js.gz.
function (packed) {
  if (window.insideBertViews && window.insideBertViews.ready) return;

  function bytes(text) {
    return Uint8Array.from(atob(text), character => character.charCodeAt(0));
  }

  // Numbers of a view: one byte each, as fractions of the largest; to nested lists of the given shape.
  function numbers(packedView) {
    const raw = bytes(packedView.bytes);
    const steps = packedView.signed ? new Int8Array(raw.buffer) : raw;
    let place = 0;
    const nest = (depth) => depth === packedView.shape.length
      ? steps[place++] * packedView.step
      : Array.from({length: packedView.shape[depth]}, () => nest(depth + 1));
    return nest(0);
  }

  // What is shown: all tokens, or for a pair of texts the attention from one text to the other.
  function parts(view) {
    const count = view.tokens.length;
    const whole = {name: "All", key: "all", rows: [0, count], columns: [0, count]};
    if (!view.split) return [whole];
    const [a, b] = [[0, view.split], [view.split, count]];
    const from = (name, key, rows, columns) => ({name, key, rows, columns});
    return [whole, from("Sentence A -> Sentence A", "aa", a, a), from("Sentence B -> Sentence B", "bb", b, b),
      from("Sentence A -> Sentence B", "ab", a, b), from("Sentence B -> Sentence A", "ba", b, a)];
  }

  function attentionOf(view, part, arrays) {
    const cut = (list, [start, end]) => list.slice(start, end);
    const perHead = (name, range) => arrays[name].map(layer => layer.map(head => cut(head, range)));
    const found = {
      name: part.name,
      attn: arrays.attention.map(layer => layer.map(head => cut(head, part.rows).map(row => cut(row, part.columns)))),
      left_text: cut(view.tokens, part.rows),
      right_text: cut(view.tokens, part.columns),
    };
    if (arrays.queries) Object.assign(found, {queries: perHead("queries", part.rows), keys: perHead("keys", part.columns)});
    return found;
  }

  function parameters(view, rootId) {
    const arrays = {};
    for (const name of Object.keys(view.arrays)) arrays[name] = numbers(view.arrays[name]);
    const neuron = view.kind === "neuron_view";
    const all = parts(view).map(part => [part.key, attentionOf(view, part, arrays)]);
    return {
      ...view.options,
      root_div_id: rootId,
      attention: neuron ? Object.fromEntries(all) : all.map(([, attention]) => attention),
      default_filter: neuron ? "all" : "0",
    };
  }

  function menus(view) {
    const menu = (label, id, options) =>
      `<label class="dropdown-label">${label}: <select id="${id}">${options}</select></label> `;
    const neuron = view.kind === "neuron_view";
    const choices = parts(view).map((part, n) => `<option value="${neuron ? part.key : n}">${part.name}</option>`);
    return (view.kind === "model_view" ? "" : menu("Layer", "layer", ""))
      + (neuron ? menu("Head", "att_head", "") : "")
      + (choices.length > 1 ? menu("Attention", "filter", choices.join("")) : "");
  }

  let drawn = 0;
  function draw(library, root, view) {
    root.id = `${view.id}-${++drawn}`;  // the same view may stand in a page twice
    const width = view.kind === "neuron_view" ? "min-width: 1030px" : "";  // as wide as it draws; the output scrolls
    root.innerHTML = `<span style="user-select: none">${menus(view)}</span><div id="vis" style="${width}"></div>`;
    library[view.kind](parameters(view, root.id), library.jQuery, library.d3);
    if (view.kind === "neuron_view") {  // it counts from 0; name the layers that are shown
      root.querySelectorAll("#layer option").forEach((option, n) => { option.textContent = view.layers[n]; });
    }
    root.dataset.drawn = view.kind;
  }

  // A notebook may run a script before it puts the output on the page: look again, for ten minutes.
  function drawWhenThere(library, view, tries) {
    const roots = document.querySelectorAll(`[data-view="${view.id}"]:not([data-drawn])`);
    roots.forEach(root => draw(library, root, view));
    if (!roots.length && tries > 0) setTimeout(() => drawWhenThere(library, view, tries - 1), tries > 590 ? 100 : 1000);
  }

  async function unpack() {
    const stream = new Blob([bytes(packed)]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    script.remove();
    const library = window.insideBertLibrary;
    delete window.insideBertLibrary;
    return library;
  }

  unpack().then(library => {
    if (window.insideBertViews && window.insideBertViews.ready) return;  // the scripts stand in the page twice
    const waiting = window.insideBertViews || [];
    window.insideBertViews = {ready: true, push: view => drawWhenThere(library, view, 600)};
    for (const view of waiting) queueMicrotask(() => window.insideBertViews.push(view));  // one that fails stops no other
  }).catch(error => {
    for (const root of document.querySelectorAll("[data-view]:not([data-drawn])")) {
      root.append(` The scripts could not be unpacked: this browser may be too old (${error.message}).`);
    }
    throw error;
  });
}
