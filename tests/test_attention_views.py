"""The views of attention: what reaches BertViz's drawing code, what is refused, and how much a notebook stores.

BertViz's own Python says what its drawing code has to be handed. The script of the page runs in Node.js where there is
one, with a page of a few lines in place of a browser's; what does not need it is unpacked here once more.
"""

from __future__ import annotations

import base64
import difflib
import gzip
import hashlib
import html
import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import types
from html.parser import HTMLParser
from pathlib import Path

import bertviz.neuron_view
import numpy
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertModel

from inside_bert import DamagedDataError, attention_views, data_folder
from inside_bert.attention_views import SCRIPTS, head_view, load_view_scripts, model_view, neuron_view

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = str(data_folder() / "models" / "embedded-bert")
TEXT = ("The cat sat on the mat because it was very tired after the long walk through the rain", None)
PAIR = ("The cat sat on the mat.", "It was very tired after the long morning walk.")
HALF_A_STEP = 1 / 510 + 2e-6  # weights are stored as steps of 1/255; the rest is float32
FILTERS = {"All", "Sentence A -> Sentence A", "Sentence B -> Sentence B", "Sentence A -> Sentence B",
           "Sentence B -> Sentence A"}  # fmt: skip

texts = pytest.mark.parametrize("sentences", [TEXT, PAIR], ids=["text", "pair"])
NODE = shutil.which("node")
with_node = pytest.mark.skipif(not NODE, reason="runs the page's script, which needs Node.js")


class Example:
    """One text, or a pair, with what the library says of it."""

    def __init__(self, model, tokenizer, sentences):
        self.batch = tokenizer(*sentences, return_tensors="pt")
        self.tokens = tokenizer.convert_ids_to_tokens(self.batch["input_ids"][0])
        self.split = None if sentences[1] is None else self.batch["token_type_ids"][0].tolist().index(1)
        with torch.no_grad():
            output = model(**self.batch, output_attentions=True, output_hidden_states=True)
        self.attention, self.hidden = output.attentions, output.hidden_states


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def model():
    return BertModel.from_pretrained(CHECKPOINT, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def examples(model, tokenizer):
    found = {sentences: Example(model, tokenizer, sentences) for sentences in (TEXT, PAIR)}
    assert {len(example.tokens) for example in found.values()} == {20}
    return found


@pytest.fixture(scope="module")
def bertviz_model(model):
    """BertViz's neuron view wants its own model class; it gets the library's weights."""
    from bertviz.transformers_neuron_view import BertConfig, BertModel

    config = BertConfig.from_json_file(f"{CHECKPOINT}/config.json")
    config.output_attentions = True
    theirs = BertModel(config)
    report = theirs.load_state_dict(model.state_dict())
    assert not report.missing_keys and not report.unexpected_keys
    return theirs.eval()


def random_attention(layers=6, heads=12, tokens=7):
    scores = torch.randn(layers, 1, heads, tokens, tokens, generator=torch.Generator().manual_seed(0))
    return tuple(scores.softmax(dim=-1))


def names(count):
    return [f"token{n}" for n in range(count)]


def hooks_of(model):
    """Return the hooks of a model's matrices; the library keeps some of its own on other modules."""
    matrices = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert len(matrices) >= 12
    return [hook for matrix in matrices for hook in (*matrix._forward_hooks, *matrix._forward_pre_hooks)]


# reading a view back -----------------------------------------------------------------------------------------------
def script_of(view):
    """Return the one script of a view, as a browser cuts it out."""
    found, inside = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            inside.append(tag)

        def handle_endtag(self, tag):
            assert inside.pop() == tag

        def handle_data(self, data):
            if inside and inside[-1] == "script":
                found.append(data)
            assert inside or not data.strip(), f"text outside of the view's elements: {data!r}"

    reader = Reader()
    reader.feed(view.html)
    reader.close()
    assert not inside and len(found) == 1
    return found[0]


def content(view):
    """Return what a view stores, its arrays unpacked without JavaScript."""
    stored = json.loads(re.search(r"\.push\((.*)\);$", script_of(view), re.DOTALL)[1])
    for name, packed in stored["arrays"].items():
        steps = numpy.frombuffer(base64.b64decode(packed["bytes"]), numpy.int8 if packed["signed"] else numpy.uint8)
        stored["arrays"][name] = steps.reshape(packed["shape"]) * packed["step"]
    return stored


PAGE = """
const input = JSON.parse(require("fs").readFileSync(0, "utf8"));
globalThis.window = globalThis;
const calls = [], page = [], scripts = [];
window.insideBertTest = kind => (params, jQuery, d3) => {
  const root = page.find(root => root.id === params.root_div_id);
  root.options = params.attention.all ? params.attention.all.attn.map((_, n) => ({textContent: n})) : [];
  calls.push({kind, params, html: root.innerHTML, libraries: [jQuery, d3], root});
};
globalThis.document = {
  querySelectorAll: selector => page.filter(
    root => selector === `[data-view="${root.view}"]:not([data-drawn])` && !("drawn" in root.dataset)),
  createElement: () => ({remove() {}}),
  head: {append(script) { scripts.push(script.textContent); if (input.library) (0, eval)(script.textContent); }},
};
const put = view => page.push({view: view.id, dataset: {}, querySelectorAll: () => page.at(-1) && page.find(
  root => root.id === calls.at(-1).params.root_div_id).options});
const later = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
(async () => {
  for (const step of input.steps) {
    if (step.put) put(step.put);
    if (step.run) (0, eval)(step.run);
    if (step.wait) await later(step.wait);
  }
  for (let n = 0; n < 100 && calls.length < input.expected; n++) await later(20);
  await later(20);
  const answers = calls.map(({root, ...call}) => ({...call, layerMenu: root.options.map(item => item.textContent)}));
  process.stdout.write(JSON.stringify({scripts, calls: answers}), () => process.exit(0));
})();
"""
FAKE_LIBRARY = "window.insideBertLibrary = {jQuery: 'jQuery', d3: 'd3', " + ", ".join(
    f"{view}: insideBertTest('{view}')" for view in ("head_view", "model_view", "neuron_view")
) + "};"  # fmt: skip


def in_page(steps, expected, library=True):
    given = json.dumps({"steps": steps, "expected": expected, "library": library})
    ran = subprocess.run([NODE, "-e", PAGE], input=given, capture_output=True, text=True, timeout=60, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout)


def loader():
    """Return the script of `load_view_scripts` with a library that records in place of the one that draws."""
    packed = base64.b64encode(gzip.compress(FAKE_LIBRARY.encode())).decode()
    script, count = re.subn(r'\("[A-Za-z0-9+/=]+"\);$', f'("{packed}");', attention_views._loader())
    assert count == 1
    return script


def handed_over(*views):
    """Return what the page's script hands to the drawing code, one call for each view."""
    shown = [{"put": {"id": content(view)["id"]}, "run": script_of(view)} for view in views]
    calls = in_page([*shown, {"run": loader()}], len(views))["calls"]
    assert len(calls) == len(views)
    return calls


# what BertViz would hand over --------------------------------------------------------------------------------------
def parameters_in(page):
    """Return the parameters in BertViz's own page, and how many bytes they take there."""
    start = re.search(r"(?:const params|bertviz_params) = (?=\{)", page.data).end()
    parameters, end = json.JSONDecoder().raw_decode(page.data, start)
    return parameters, len(page.data[start:end].encode())


def bytes_of(page):
    """Return how much of BertViz's own page is not its script: menus and parameters (it may hold them twice: once)."""
    menus = re.sub(r"<script.*?</script>", "", page.data, flags=re.DOTALL)
    return len(menus.encode()) + parameters_in(page)[1]


@pytest.fixture(scope="module")
def bertviz_parameters(examples):
    """What BertViz's Python hands over for a view, made once for each."""
    made = {}

    def parameters(kind, sentences, options):
        key = (kind, sentences, str(options))
        if key not in made:
            example = examples[sentences]
            mode = {"display_mode": "light"} if kind == "model_view" else {}
            page = getattr(bertviz, kind)(
                example.attention, example.tokens, example.split, html_action="return", **mode, **options
            )
            made[key] = parameters_in(page)[0]
        return made[key]

    return parameters


def assert_same_attention(mine, theirs):
    assert len(mine) == len(theirs)
    for my_part, their_part in zip(mine, theirs):
        assert my_part["left_text"] == their_part["left_text"]
        assert my_part["right_text"] == their_part["right_text"]
        my_weights, their_weights = numpy.array(my_part["attn"]), numpy.array(their_part["attn"])
        assert my_weights.shape == their_weights.shape
        assert abs(my_weights - their_weights).max() <= HALF_A_STEP


CHOICES = {
    "head_view": [{}, {"layer": 4, "heads": [3, 5], "include_layers": [4, 2]}, {"heads": [0]}],
    "model_view": [{}, {"include_layers": [4, 2], "include_heads": [11, 3, 5]}, {"include_heads": [7]}],
}
choices = pytest.mark.parametrize("kind, options", [(kind, options) for kind in CHOICES for options in CHOICES[kind]])


@with_node
@texts
@choices
def test_the_drawing_code_is_handed_what_bertviz_hands_it(examples, bertviz_parameters, sentences, kind, options):
    example = examples[sentences]
    theirs = bertviz_parameters(kind, sentences, options)
    view = getattr(attention_views, kind)(example.attention, example.tokens, example.split, **options)
    (call,) = handed_over(view)
    assert call["kind"] == kind and call["libraries"] == ["jQuery", "d3"]
    mine = call["params"]
    assert mine.keys() == theirs.keys()
    assert_same_attention(mine["attention"], theirs["attention"])
    assert {key: mine[key] for key in mine.keys() - {"attention", "root_div_id"}} == {
        key: theirs[key] for key in theirs.keys() - {"attention", "root_div_id"}
    }
    offered = re.findall(r'<option value="(\d)">(.*?)</option>', call["html"])
    if sentences is PAIR:
        assert [name for _, name in offered] == [part["name"] for part in theirs["attention"]]
        assert [int(value) for value, _ in offered] == list(range(5)) and {name for _, name in offered} == FILTERS
    else:
        assert not offered and 'id="filter"' not in call["html"]
    assert ('id="layer"' in call["html"]) == (kind == "head_view")


@texts
@choices
def test_what_is_stored_is_what_bertviz_hands_over(examples, bertviz_parameters, sentences, kind, options):
    """As above without JavaScript: its cutting into parts is left out, everything stored is compared."""
    example = examples[sentences]
    theirs = bertviz_parameters(kind, sentences, options)
    stored = content(getattr(attention_views, kind)(example.attention, example.tokens, example.split, **options))
    assert (stored["kind"], stored["tokens"], stored["split"]) == (kind, example.tokens, example.split)
    assert stored["layers"] == theirs["include_layers"]
    whole = numpy.array(theirs["attention"][0]["attn"])
    assert stored["arrays"].keys() == {"attention"}
    assert stored["arrays"]["attention"].shape == whole.shape
    assert abs(stored["arrays"]["attention"] - whole).max() <= HALF_A_STEP
    assert stored["options"] == {
        key: value for key, value in theirs.items() if key not in ("attention", "default_filter", "root_div_id")
    }


def test_order_of_layers_is_kept(examples):
    example = examples[TEXT]
    stored = content(head_view(example.attention, example.tokens, include_layers=[4, 2]))
    assert stored["layers"] == stored["options"]["include_layers"] == [4, 2]
    for place, layer in enumerate([4, 2]):
        assert abs(stored["arrays"]["attention"][place] - example.attention[layer][0].numpy()).max() <= HALF_A_STEP
    assert content(model_view(example.attention, example.tokens, include_layers=[4, 2]))["layers"] == [4, 2]


def test_numbers_of_numpy_and_torch_are_accepted(model, tokenizer, examples):
    example = examples[PAIR]
    plain = head_view(example.attention, example.tokens, example.split, layer=2, heads=[1, 3], include_layers=[4, 2])
    for kind in (numpy.int64, torch.tensor):
        other = head_view(
            example.attention,
            example.tokens,
            kind(example.split),
            layer=kind(2),
            heads=[kind(1), kind(3)],
            include_layers=[kind(4), kind(2)],
        )
        assert other == plain
    array = numpy.array([4, 2])
    assert head_view(example.attention, example.tokens, include_layers=array, heads=range(2)) == head_view(
        example.attention, example.tokens, include_layers=[4, 2], heads=[0, 1]
    )
    assert model_view(example.attention, example.tokens, include_layers=array, include_heads=array) == model_view(
        example.attention, example.tokens, include_layers=[4, 2], include_heads=[4, 2]
    )
    places = {"layer": numpy.int64(2), "head": numpy.int64(3), "include_layers": array}
    assert neuron_view(model, tokenizer, *PAIR, **places) == neuron_view(
        model, tokenizer, *PAIR, layer=2, head=3, include_layers=[4, 2]
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_accepted(dtype):
    attention = random_attention()
    stored = content(head_view([weights.to(dtype) for weights in attention], names(7)))["arrays"]["attention"]
    assert abs(stored - torch.cat(attention).numpy()).max() <= 1 / 510 + 1 / 256  # bfloat16 has 8 bits


# the neuron view ---------------------------------------------------------------------------------------------------
def assert_within_rounding(mine, exact):
    """Queries and keys are steps of 1/127 of the largest of the view, whatever its sign."""
    assert mine.shape == exact.shape
    assert abs(mine - exact).max() <= abs(exact).max() / 254 + 1e-4


@with_node
@texts
def test_neuron_view_is_handed_what_bertviz_hands_it(model, bertviz_model, tokenizer, sentences):
    options = {"display_mode": "light", "layer": 3, "head": 5}
    page = bertviz.neuron_view.show(bertviz_model, "bert", tokenizer, *sentences, html_action="return", **options)
    theirs, _ = parameters_in(page)
    (call,) = handed_over(neuron_view(model, tokenizer, *sentences, **options))
    mine = call["params"]
    assert mine.keys() == theirs.keys()
    assert {key: mine[key] for key in mine.keys() - {"attention", "root_div_id"}} == {
        key: theirs[key] for key in theirs.keys() - {"attention", "root_div_id"}
    }
    parts = {"all"} if sentences is TEXT else {"all", "aa", "bb", "ab", "ba"}
    assert mine["attention"].keys() == theirs["attention"].keys() == parts
    largest = {name: abs(numpy.array(theirs["attention"]["all"][name])).max() for name in ("queries", "keys")}
    for part in parts:
        my_part, their_part = mine["attention"][part], theirs["attention"][part]
        assert_same_attention([my_part], [their_part])
        for name in ("queries", "keys"):
            my_numbers, their_numbers = numpy.array(my_part[name]), numpy.array(their_part[name])
            assert my_numbers.shape == their_numbers.shape
            assert abs(my_numbers - their_numbers).max() <= largest[name] / 254 + 1e-4
    offered = dict(re.findall(r'<option value="(\w+)">(.*?)</option>', call["html"]))
    assert offered.keys() == (parts if sentences is PAIR else set())
    assert not offered or set(offered.values()) == FILTERS and offered["ab"] == "Sentence A -> Sentence B"
    assert 'id="layer"' in call["html"] and 'id="att_head"' in call["html"]


@with_node
def test_neuron_view_names_the_layers_that_it_shows(model, tokenizer):
    (call,) = handed_over(neuron_view(model, tokenizer, *TEXT, layer=2, include_layers=[4, 2]))
    assert call["params"]["layer"] == 1, "BertViz counts the layers that it is given"
    assert call["layerMenu"] == [4, 2]


@texts
def test_neuron_view_stores_the_librarys_queries_and_keys(model, tokenizer, examples, sentences):
    """Against hand-made ones: the layer's input times the layer's matrix, cut into heads one by one."""
    example = examples[sentences]
    layers, heads, size = [5, 0, 3], 12, 32
    stored = content(neuron_view(model, tokenizer, *sentences, include_layers=layers))
    assert (stored["tokens"], stored["split"], stored["layers"]) == (example.tokens, example.split, layers)
    for name, module in (("queries", "query"), ("keys", "key")):
        exact = []
        for layer in layers:
            linear = getattr(model.encoder.layer[layer].attention.self, module)
            whole = (example.hidden[layer][0] @ linear.weight.T + linear.bias).detach().numpy()  # (T, D)
            exact.append([whole[:, head * size : (head + 1) * size] for head in range(heads)])
        assert_within_rounding(stored["arrays"][name], numpy.array(exact))
    weights = torch.cat([example.attention[layer] for layer in layers]).numpy()
    assert abs(stored["arrays"]["attention"] - weights).max() <= HALF_A_STEP


@texts
def test_neuron_view_stores_what_bertviz_hands_over(model, bertviz_model, tokenizer, sentences):
    from bertviz.neuron_view import get_attention

    theirs = get_attention(bertviz_model, "bert", tokenizer, *sentences, include_queries_and_keys=True)["all"]
    stored = content(neuron_view(model, tokenizer, *sentences))
    assert stored["tokens"] == theirs["left_text"] == theirs["right_text"]
    assert abs(stored["arrays"]["attention"] - numpy.array(theirs["attn"])).max() <= HALF_A_STEP
    for name in ("queries", "keys"):
        assert_within_rounding(stored["arrays"][name], numpy.array(theirs[name]))


def test_neuron_view_takes_a_model_with_any_head(model, tokenizer):
    masked = BertForMaskedLM.from_pretrained(CHECKPOINT, attn_implementation="eager").eval()
    assert neuron_view(masked, tokenizer, "A cat.") == neuron_view(model, tokenizer, "A cat.")
    assert not hooks_of(masked)


def small_model(**options):
    config = BertConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, **options)
    return BertModel(config, add_pooling_layer=False).eval()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("value", [2.0, 0.0, -3.0])
def test_queries_of_one_sign(tokenizer, value):
    model = small_model(attn_implementation="eager")
    for block in model.encoder.layer:
        torch.nn.init.zeros_(block.attention.self.query.weight)
        torch.nn.init.constant_(block.attention.self.query.bias, value)
    queries = content(neuron_view(model, tokenizer, "A cat."))["arrays"]["queries"]
    assert queries.shape == (2, 2, 5, 4)
    assert queries == pytest.approx(value, abs=1e-4)


# what is stored ----------------------------------------------------------------------------------------------------
@texts
@pytest.mark.parametrize("kind", ["head_view", "model_view", "neuron_view"])
def test_a_view_is_a_tenth_of_bertviz_own(model, bertviz_model, tokenizer, examples, sentences, kind):
    example = examples[sentences]
    if kind == "neuron_view":
        mine = neuron_view(model, tokenizer, *sentences)
        page = bertviz.neuron_view.show(bertviz_model, "bert", tokenizer, *sentences, html_action="return")
    else:
        mine = getattr(attention_views, kind)(example.attention, example.tokens, example.split)
        page = getattr(bertviz, kind)(example.attention, example.tokens, example.split, html_action="return")
    sizes = len(mine.html.encode()), bytes_of(page)
    assert sizes[0] * 10 <= sizes[1], f"{kind}: {sizes[0]:,} bytes, BertViz's own {sizes[1]:,}"


def test_the_same_view_twice_is_the_same(model, tokenizer, examples):
    example = examples[TEXT]
    assert head_view(example.attention, example.tokens).html == head_view(example.attention, example.tokens).html
    assert neuron_view(model, tokenizer, *PAIR).html == neuron_view(model, tokenizer, *PAIR).html


def test_another_view_has_another_name(model, tokenizer, examples):
    example = examples[TEXT]
    weights, tokens = example.attention, example.tokens
    turned = [layer.flip(1) for layer in weights]
    views = [
        head_view(weights, tokens),
        head_view(weights, ["[CLS]", "a", *tokens[2:]]),
        head_view(turned, tokens),
        head_view(weights, tokens, 9),
        head_view(weights, tokens, heads=[1]),
        head_view(weights, tokens, include_layers=[1]),
        model_view(weights, tokens),
        model_view(weights, tokens, display_mode="dark"),
        neuron_view(model, tokenizer, TEXT[0]),
    ]
    assert len({view.html for view in views}) == len({content(view)["id"] for view in views}) == len(views)
    for view in views:
        assert re.match(r'<div data-view="([^"]+)"', view.html)[1] == content(view)["id"]


HOSTILE = ["</script><img onerror=1>", "&", "&lt;", "\u2028", "<!--<script>", "]]>", '"', "\\", "'", "\ud83d", "`${1}`"]


def test_a_token_stays_in_its_script():
    view = head_view(random_attention(2, 2, len(HOSTILE)), HOSTILE)
    assert content(view)["tokens"] == HOSTILE  # one script, and nothing outside of it: see script_of
    data = script_of(view).split(".push(", 1)[1]
    assert not set("<>&\u2028\u2029") & set(data)
    assert "onerror" not in view.html.split("<script>")[0]
    view.html.encode("utf-8")


@with_node
def test_a_token_reaches_the_page_as_it_is():
    (call,) = handed_over(head_view(random_attention(2, 2, len(HOSTILE)), HOSTILE))
    assert call["params"]["attention"][0]["left_text"] == HOSTILE
    assert "onerror" not in call["html"]


def test_waiting_text_is_escaped(monkeypatch):
    escaped = []
    monkeypatch.setattr(html, "escape", lambda text: escaped.append(text) or "ESCAPED")
    view = head_view(random_attention(), names(7))
    assert re.search(r"<div [^>]*>(.*?)</div>", view.html)[1] == "ESCAPED"
    assert len(escaped) == 1 and "load_view_scripts()" in escaped[0]


def test_a_view_shows_as_html_and_as_text():
    attention = random_attention()
    view = model_view(attention, names(7), include_layers=[3])
    assert view._repr_mimebundle_() == {"text/html": view.html, "text/plain": view.summary}
    assert repr(view) == view.summary == "[model view: 7 tokens, layer 3, 12 heads]"
    assert head_view(attention, names(7), include_layers=[3, 1]).summary == "[head view: 7 tokens, 2 layers, 12 heads]"
    waiting = re.search(r"<div [^>]*>(.*?)</div>", view.html)[1]
    assert "model view: 7 tokens, layer 3, 12 heads" in html.unescape(waiting)
    with pytest.raises(AttributeError):
        view.html = ""


# what is refused ---------------------------------------------------------------------------------------------------
def changed(attention, change):
    return [change(weights.clone()) for weights in attention]


def with_nan(weights):
    weights[0, 0, 0, 0] = float("nan")
    return weights


REFUSED = {  # what: (attention, message)
    "none": (None, "no attention weights.*attn_implementation='eager'"),
    "empty": ((), "no attention weights.*attn_implementation='eager'"),
    "none in each layer": ((None,) * 6, "no attention weights.*attn_implementation='eager'"),
    "batch of two": (changed(random_attention(), lambda w: w.repeat(2, 1, 1, 1)), r"a batch of 2: pass \[w\[:1\] for"),
    "other length": (random_attention(tokens=8), "over 8 x 8 positions does not fit 7 tokens"),
    "not square": (changed(random_attention(), lambda w: w[..., :5]), "over 7 x 5 positions does not fit 7 tokens"),
    "three axes": (changed(random_attention(), lambda w: w[0]), r"\(1, H, T, T\) per layer, got \[\(12, 7, 7\)\]"),
    "one layer": (random_attention()[0], r"\(1, H, T, T\) per layer, got \[\(12, 7, 7\)\]"),
    "layers differ": ([*random_attention(), *random_attention(heads=3)], r"\(1, H, T, T\) per layer, got \[.*3.*12"),
    "NaN": (changed(random_attention(), with_nan), "hold NaN or infinity"),
    "scores": (changed(random_attention(), torch.log), "between 0 and 1.*scores before softmax"),
    "scaled": (changed(random_attention(), lambda w: w * 9), "between 0 and 1.*scores before softmax.*training mode"),
}


@pytest.mark.parametrize("kind", [head_view, model_view])
@pytest.mark.parametrize("attention, message", REFUSED.values(), ids=list(REFUSED))
def test_attention_that_is_refused(kind, attention, message):
    with pytest.raises(ValueError, match=message):
        kind(attention, names(7))


def test_the_remedy_for_a_batch_of_two_works():
    attention = changed(random_attention(), lambda weights: weights.repeat(2, 1, 1, 1))
    assert head_view([w[:1] for w in attention], names(7)) == head_view(random_attention(), names(7))


PLACES = {  # (view, options): message
    (head_view, "layer=6"): r"layer=6 is not among the layers of this view, \[0, 1, 2, 3, 4, 5\]",
    (head_view, "layer=-1"): "layer=-1 is not among",
    (head_view, "layer=3, include_layers=[1, 2]"): r"layer=3 is not among the layers of this view, \[1, 2\]",
    (head_view, "heads=[0, 12]"): r"heads=\[0, 12\]: choose from 0 to 11",
    (head_view, "heads=[-1]"): r"heads=\[-1\]: choose from 0 to 11",
    (head_view, "heads=[]"): r"heads=\[\]: choose",
    (head_view, "include_layers=[6]"): r"include_layers=\[6\]: choose from 0 to 5",
    (head_view, "include_layers=[-1]"): r"include_layers=\[-1\]: choose from 0 to 5",
    (head_view, "include_layers=[]"): r"include_layers=\[\]: choose from 0 to 5",
    (head_view, "sentence_b_start=0"): "sentence_b_start=0: .* from 1 to 6",
    (head_view, "sentence_b_start=7"): "sentence_b_start=7: .* from 1 to 6",
    (head_view, "sentence_b_start=-2"): "sentence_b_start=-2: .* from 1 to 6",
    (model_view, "include_layers=[]"): r"include_layers=\[\]: choose from 0 to 5",
    (model_view, "include_layers=[0, -1]"): r"include_layers=\[0, -1\]: choose from 0 to 5",
    (model_view, "include_heads=[12]"): r"include_heads=\[12\]: choose from 0 to 11",
    (model_view, "include_heads=[]"): r"include_heads=\[\]: choose from 0 to 11",
    (model_view, "display_mode='blue'"): "display_mode='blue': choose 'light' or 'dark'",
    (model_view, "sentence_b_start=7"): "sentence_b_start=7: .* from 1 to 6",
}


@pytest.mark.parametrize("call, message", PLACES.items(), ids=[f"{kind.__name__}({text})" for kind, text in PLACES])
def test_places_that_do_not_exist(call, message):
    kind, options = call
    with pytest.raises(ValueError, match=message):
        kind(random_attention(), names(7), **eval(f"dict({options})"))


def test_borders_that_are_fine():
    attention = random_attention()
    for split in (1, 6):
        assert content(head_view(attention, names(7), split))["split"] == split
    assert content(head_view(attention, names(7), layer=5, heads=[11, 0]))["options"]["heads"] == [11, 0]
    ones = head_view([torch.ones(1, 1, 1, 1)], ["a"])
    assert content(ones)["arrays"]["attention"] == pytest.approx(1, abs=1e-5)
    rounded = [torch.full((1, 1, 2, 2), 1 + 1e-7), torch.full((1, 1, 2, 2), -1e-7)]  # as arithmetic leaves them
    stored = content(head_view(rounded, ["a", "b"]))["arrays"]["attention"]
    assert stored[0] == pytest.approx(1, abs=1e-5) and (stored[1] == 0).all()


def advised_layers(error):
    found = re.search(r"(\d+) of the (\d+) layers \(include_layers=(\[.*?\])\)", str(error))
    layers = json.loads(found[3])
    assert len(layers) == int(found[1]) < int(found[2])
    return layers


def test_too_many_lines_in_a_model_view():
    attention = random_attention(tokens=30)
    with pytest.raises(ValueError, match="model view would draw 64,800 lines at once.*shorter text, or") as refused:
        model_view(attention, names(30))
    layers = advised_layers(refused.value)
    assert layers == [0, 1, 2, 3, 4]
    assert content(model_view(attention, names(30), include_layers=layers))["layers"] == layers
    with pytest.raises(ValueError) as refused:  # the advice is taken from the layers that were asked for
        model_view(attention, names(30), include_layers=[5, 4, 3, 2, 1, 0])
    assert advised_layers(refused.value) == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("kind", [head_view, model_view])
def test_too_many_lines_in_one_layer(kind):
    """Then no choice of layers helps, and none is advised."""
    attention = random_attention(tokens=71)
    for layers in (None, [2]):
        with pytest.raises(ValueError, match=r"lines at once; above 60,000 a browser .*\. Show a shorter text\.$"):
            kind(attention, names(71), include_layers=layers)


def test_too_many_numbers_in_a_head_view():
    attention = random_attention(tokens=70)
    with pytest.raises(ValueError, match="would store 352,800 numbers in the notebook, more than 300,000") as refused:
        head_view(attention, names(70))
    layers = advised_layers(refused.value)
    assert len(layers) == 5
    assert content(head_view(attention, names(70), include_layers=layers))["layers"] == layers


def test_too_many_numbers_in_a_neuron_view(model, tokenizer):
    text = "the cat sat " * 32
    with pytest.raises(ValueError, match="this neuron view would store [0-9,]+ numbers") as refused:
        neuron_view(model, tokenizer, text, include_layers=[5, 4, 1])
    layers = advised_layers(refused.value)
    assert layers == [5]
    assert content(neuron_view(model, tokenizer, text, include_layers=layers))["layers"] == layers
    with pytest.raises(ValueError, match=r"this neuron view would draw .* lines at once.*Show a shorter text\.$"):
        neuron_view(model, tokenizer, "the cat sat " * 50, include_layers=[5])
    assert not hooks_of(model)


NOT_TEXT = {
    "empty": (("",), ValueError, "text 0 is empty"),
    "blank second": (("A cat.", "  "), ValueError, "text 1 is empty"),
    "too long": (("cat " * 600,), ValueError, "the text has 602 tokens, and the model reads at most 512"),
    "too long a pair": (("cat " * 300, "cat " * 300), ValueError, "has 603 tokens, and the model reads at most 512"),
    "number": ((5,), TypeError, "text 0 is 5"),
    "half a pair": (("a\ud83d",), ValueError, "half of a surrogate pair"),
}


@pytest.mark.parametrize("sentences, error, message", NOT_TEXT.values(), ids=list(NOT_TEXT))
def test_text_that_a_neuron_view_refuses(model, tokenizer, sentences, error, message):
    with pytest.raises(error, match=message) as refused:
        neuron_view(model, tokenizer, *sentences)
    assert "truncation" not in str(refused.value), "it has no such argument"
    assert not hooks_of(model)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"layer": 6}, r"layer=6 is not among the layers of this view, \[0, 1, 2, 3, 4, 5\]"),
        ({"layer": 0, "include_layers": [1]}, r"layer=0 is not among the layers of this view, \[1\]"),
        ({"head": 12}, "head=12 is not among the heads of this view"),
        ({"head": -1}, "head=-1 is not among the heads of this view"),
        ({"include_layers": []}, r"include_layers=\[\]: choose from 0 to 5"),
        ({"include_layers": [-1]}, r"include_layers=\[-1\]: choose from 0 to 5"),
        ({"display_mode": "grey"}, "display_mode='grey': choose 'light' or 'dark'"),
    ],
    ids=str,
)
def test_options_that_a_neuron_view_refuses(model, tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        neuron_view(model, tokenizer, "A cat.", **options)
    assert not hooks_of(model)


def test_a_model_in_training_mode(tokenizer):
    model = small_model(attn_implementation="eager").train()
    with pytest.raises(ValueError, match=r"training mode.*call model.eval\(\)"):
        neuron_view(model, tokenizer, "A cat.")
    assert not hooks_of(model) and model.training
    neuron_view(model.eval(), tokenizer, "A cat.")


def test_a_model_that_forms_no_weights(tokenizer):
    model = small_model(attn_implementation="sdpa")
    with pytest.raises(ValueError, match="no attention weights.*attn_implementation='eager'"):
        neuron_view(model, tokenizer, "A cat.")
    assert not hooks_of(model)


def test_a_model_that_fails_keeps_no_hooks(tokenizer):
    model = small_model(attn_implementation="eager")

    def fail(module, inputs):
        raise RuntimeError("out of memory")

    mine = model.encoder.layer[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        neuron_view(model, tokenizer, "A cat.")
    mine.remove()
    assert not hooks_of(model)


# the scripts -------------------------------------------------------------------------------------------------------
@pytest.fixture
def shown(monkeypatch):
    """What `load_view_scripts` puts on the page."""
    outputs = []
    monkeypatch.setattr(attention_views, "display", lambda data, raw=False: outputs.append((data, raw)))
    return outputs


def packed_script():
    return gzip.decompress((data_folder() / "scripts" / SCRIPTS).read_bytes()).decode("utf-8")


def test_load_view_scripts_shows_the_script(shown, capsys):
    assert load_view_scripts() is None
    ((data, raw),) = shown
    assert raw is True and data.keys() == {"text/html", "text/plain"}
    assert data["text/html"].lower().count("<script") == data["text/html"].lower().count("</script") == 1
    script = re.search(r"<script>(.*)</script>$", data["text/html"], re.DOTALL)[1]
    packed = re.fullmatch(r'\((function \(packed\) \{.*\})\)\("([A-Za-z0-9+/=]+)"\);', script, re.DOTALL)
    assert gzip.decompress(base64.b64decode(packed[2])).decode("utf-8") == packed_script()
    assert "BertViz" in data["text/plain"] and "<" not in data["text/plain"]
    assert len(data["text/html"]) < 200_000
    assert capsys.readouterr() == ("", "")


def test_scripts_that_are_missing_or_damaged(monkeypatch, tmp_path, shown):
    shutil.copytree(data_folder() / "scripts", tmp_path / "scripts")
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("INSIDE_BERT_DATA", str(tmp_path))
    load_view_scripts()
    assert len(shown) == 1
    path = tmp_path / "scripts" / SCRIPTS
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) + b"x")
    with pytest.raises(DamagedDataError, match="attention_views.js.gz is damaged"):
        load_view_scripts()
    path.unlink()
    with pytest.raises(DamagedDataError, match="attention_views.js.gz is missing"):
        load_view_scripts()
    (tmp_path / "scripts" / "SHA256SUMS").unlink()
    with pytest.raises(DamagedDataError, match="SHA256SUMS is missing"):
        load_view_scripts()
    assert len(shown) == 1, "nothing is shown of what is damaged"


def test_in_colab_a_view_asks_for_the_script(monkeypatch, shown):
    registered = {}
    google, colab, output = (types.ModuleType(name) for name in ("google", "google.colab", "google.colab.output"))
    google.colab, colab.output, output.register_callback = colab, output, registered.__setitem__
    for module in (google, colab, output):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    load_view_scripts()
    (asked,) = re.findall(r'invokeFunction\("([^"]+)"', head_view(random_attention(), names(7)).html)
    assert registered.keys() == {asked}
    data = DisplayFormatter().format(registered[asked]())[0]["application/json"]  # as Colab does with the answer
    assert data == {"script": attention_views._loader()}
    assert data["script"] in shown[0][0]["text/html"]


def test_elsewhere_nothing_is_registered(monkeypatch, shown):
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    load_view_scripts()
    assert len(shown) == 1 and "google.colab" not in sys.modules


def tool():
    spec = importlib.util.spec_from_file_location("make_view_scripts", ROOT / "tools" / "make_view_scripts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_packed_script_asks_no_network_for_anything():
    script = packed_script()
    for word in ("require.config", "requirejs", "cdnjs", "import(", "PYTHON_PARAMS", "bertviz_params"):
        assert word not in script, word
    hosts = set(re.findall(r"https?://([^/\"'\s)]+)", script))
    assert hosts == {"d3js.org", "www.w3.org"}, "d3's first line and the names of XML"


def test_the_packed_script_defines_three_views():
    views = re.findall(r"^library\.(\w+) = function \(params, \$, d3\) \{", packed_script(), re.MULTILINE)
    assert views == ["head_view", "model_view", "neuron_view"]


@pytest.mark.skipif(importlib.metadata.version("bertviz") != tool().BERTVIZ, reason="another BertViz is installed")
def test_the_packed_script_is_what_the_tool_makes(monkeypatch):
    """jQuery and d3, taken out of the script, have the checksums of the published ones; the rest is made anew."""
    maker, script = tool(), packed_script()
    wrapped = r"^\(function \(\) \{ var define, module, exports;\n(.*?)\n\}\)\.call\(library\);$"
    libraries = re.findall(wrapped, script, re.DOTALL | re.MULTILINE)
    sums = [hashlib.sha256(library.encode("utf-8")).hexdigest() for library in libraries]
    assert sums == [expected for _, _, expected in maker.PACKAGES.values()]
    for view in maker.VIEWS:
        assert f"library.{view} = {maker.drawing_code(view)};" in script
    monkeypatch.setattr(maker, "library", lambda archive, folder: dict(zip(maker.PACKAGES, libraries))[archive])
    assert maker.bundle(Path()) == script


@pytest.mark.skipif(importlib.metadata.version("bertviz") != tool().BERTVIZ, reason="another BertViz is installed")
@pytest.mark.parametrize("view", ["head_view", "model_view", "neuron_view"])
def test_only_the_wrapping_of_bertviz_changes(view):
    """Line by line: what the card says was changed, and nothing else."""
    file = next(file for file in importlib.metadata.files("bertviz") if file.name == f"{view}.js")
    body = file.read_text(encoding="utf-8").split("requirejs(")[1].splitlines()
    mine = tool().drawing_code(view).splitlines()
    changes = [line for line in difflib.ndiff(body, mine) if line[0] in "+-" and line[1:].strip()]
    lost, new = ([line[1:].strip() for line in changes if line[0] == sign] for sign in "-+")
    assert new[0] == "function (params, $, d3) {" and new[-1] == "}" and lost[-1] == "});"
    inside = {  # besides the first and the last line
        "head_view": ["const params = PYTHON_PARAMS", 'console.log("d3 version"'],
        "model_view": ["const params = PYTHON_PARAMS", 'console.log("x"'],
        "neuron_view": ["const params = window.bertviz_params", 'var svg = d3.select("#vis");'],
    }[view]
    heading = 2 if view == "neuron_view" else 1  # BertViz breaks this line
    assert len(lost) == heading + len(inside) + 1
    assert all(line.startswith(start) for line, start in zip(lost[heading:], inside))
    assert new[1:-1] == (["var svg = d3.select(`#${config.rootDivId} #vis`);"] if view == "neuron_view" else [])


@with_node
def test_scripts_are_javascript(tmp_path):
    for name, script in {"packed": packed_script(), "loader": attention_views._loader()}.items():
        (tmp_path / f"{name}.js").write_text(script, encoding="utf-8")
        ran = subprocess.run([NODE, "--check", str(tmp_path / f"{name}.js")], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr


@with_node
def test_the_page_unpacks_the_packed_script():
    found = in_page([{"run": attention_views._loader(), "wait": 500}], 0, library=False)
    assert found == {"scripts": [packed_script()], "calls": []}


@with_node
def test_views_are_drawn_whenever_the_scripts_come():
    early, late, slow = (head_view(random_attention(2, 2, n), names(n)) for n in (3, 4, 5))
    put = [{"put": {"id": content(view)["id"]}} for view in (early, late, slow)]
    run = [{"run": script_of(view)} for view in (early, late, slow)]
    steps = [
        put[0], run[0],  # before the scripts
        {"run": loader(), "wait": 200},
        put[1], run[1],  # after them
        run[2], {"wait": 300}, put[2],  # a notebook that runs a script before it shows the output
    ]  # fmt: skip
    found = in_page(steps, 3)
    assert [len(call["params"]["attention"][0]["left_text"]) for call in found["calls"]] == [3, 4, 5]
    assert len(found["scripts"]) == 1


@with_node
def test_a_view_that_stands_twice_is_drawn_twice_under_two_names():
    view = head_view(random_attention(2, 2, 3), names(3))
    shown = {"put": {"id": content(view)["id"]}, "run": script_of(view)}
    calls = in_page([shown, shown, {"run": loader()}], 2)["calls"]
    assert len(calls) == 2
    assert len({call["params"]["root_div_id"] for call in calls}) == 2


@with_node
def test_scripts_that_are_loaded_twice_draw_once():
    view = head_view(random_attention(2, 2, 3), names(3))
    shown = {"put": {"id": content(view)["id"]}, "run": script_of(view)}
    at_once = in_page([shown, {"run": loader()}, {"run": loader()}, {"wait": 300}], 1)
    assert len(at_once["calls"]) == 1
    later = in_page([shown, {"run": loader(), "wait": 200}, {"run": loader(), "wait": 100}], 1)
    assert len(later["calls"]) == 1 and len(later["scripts"]) == 1
