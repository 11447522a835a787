"""A Hugging Face hub on this machine: it speaks the protocol, and holds stand-ins under the real names.

The models have the real vocabulary and small random weights; the data sets have a few dozen rows of the real schema,
the clip has drawn figures, and the detector is wired so that it finds them.
So the real loading code runs to its end where the hub cannot be reached. Each configuration carries
`inside_bert_stand_in`, by which `Run.stand_in` knows that claims about trained weights cannot be judged.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
import shutil
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
STAND_IN = "stand-in weights, random and small"
RED, BLUE, ANY = (1, -1, -1), (-1, -1, 1), (0, 0, 0)
SEEN = (  # what each token of the detector says: class, score, which colour it looks for, size of the box
    (1, 0.98, RED, (0.08, 0.5)),  # 1 is a person
    (1, 0.9, BLUE, (0.06, 0.375)),
    (27, 0.8, RED, (0.04, 0.125)),
    (1, 0.3, RED, (0.06, 0.25)),
    *[(91, 0.95, ANY, (0.1, 0.1))] * 4,  # 91 is no object
)
IMDB_CARD = """---
dataset_info:
  config_name: plain_text
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': neg
          '1': pos
configs:
- config_name: plain_text
  default: true
  data_files:
  - split: train
    path: plain_text/train-*
  - split: test
    path: plain_text/test-*
  - split: unsupervised
    path: plain_text/unsupervised-*
---
"""
SQUAD_CARD = """---
dataset_info:
  config_name: plain_text
  features:
  - name: id
    dtype: string
  - name: title
    dtype: string
  - name: context
    dtype: string
  - name: question
    dtype: string
  - name: answers
    sequence:
    - name: text
      dtype: string
    - name: answer_start
      dtype: int32
configs:
- config_name: plain_text
  default: true
  data_files:
  - split: train
    path: plain_text/train-*
  - split: validation
    path: plain_text/validation-*
---
"""


def build(folder: Path) -> Path:
    """Fill `folder` with ``models/OWNER/NAME`` and ``datasets/OWNER/NAME``; return it."""
    for name in ("bert-base-uncased", "bert-base-multilingual-cased"):  # the second: lesson 04, with the first's words
        _bert(folder / "models" / "google-bert" / name)
    _yolos(folder / "models" / "hustvl" / "yolos-tiny")
    _clip(folder / "datasets" / "XGGNet" / "4d_data_davis" / "Davis_Data" / "JPEGImages" / "480p")
    _imdb(folder / "datasets" / "stanfordnlp" / "imdb")
    _squad(folder / "datasets" / "rajpurkar" / "squad")
    _squad(folder / "datasets" / "rajpurkar" / "squad_v2", sizes=(240, 90), unanswerable=3, name="squad_v2")
    return folder


def _bert(target: Path) -> None:
    import torch
    import transformers
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer, BertConfig, BertForPreTraining

    transformers.utils.logging.disable_progress_bar()

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, inside_bert_stand_in=STAND_IN
    )
    BertForPreTraining(config).save_pretrained(target)
    weights = load_file(target / "model.safetensors")  # LayerNorm has TensorFlow's names in the original
    old_names = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in weights.items()
    }
    save_file(old_names, target / "model.safetensors", metadata={"format": "pt"})
    AutoTokenizer.from_pretrained(ROOT / "data" / "models" / "embedded-bert").save_pretrained(target)


def _yolos(target: Path) -> None:
    """A detector wired by hand, so that it finds the figures of `_clip`: a token looks for a colour, and says where.

    Of a hidden state, the second half is the first with the sign turned. The first 24 numbers are: 0 to 2 the mean
    colour of a patch, 3 and 4 its place (as logits, like the boxes), 5 to 12 one for each of the eight detection tokens,
    13 for patches, 14 for [CLS], 15 and 16 the place that attention found. Of both layers, only the first attends.
    """
    import torch
    import transformers
    from transformers import YolosConfig, YolosForObjectDetection

    transformers.utils.logging.disable_progress_bar()
    names = {0: "N/A", 1: "person"} | {number: f"class {number}" for number in range(2, 91)}
    config = YolosConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96, image_size=[800, 1333],
        num_detection_tokens=8, use_mid_position_embeddings=False, id2label=names,
        label2id={name: number for number, name in names.items()}, inside_bert_stand_in=STAND_IN,
    )  # fmt: skip
    model = YolosForObjectDetection(config)
    rows, columns = 800 // 16, 1333 // 16
    mark = 5 * 24**0.5  # so large that LayerNorm divides every state by 5, nearly
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.fill_("layernorm" in name and name.endswith("weight"))
        embeddings, layer = model.vit.embeddings, model.vit.encoder.layer[0].attention
        projection = embeddings.patch_embeddings.projection.weight
        for channel in range(3):
            projection[channel, channel] = 1 / 256
        y, x = ((torch.arange(count) + 0.5).div(count).logit() for count in (rows, columns))
        places = embeddings.position_embeddings[0, 1:-8].view(rows, columns, 48)
        places[..., 3], places[..., 4], places[..., 13] = x, y[:, None], mark
        embeddings.cls_token[..., 14] = mark
        query, key, value, dense = *(getattr(layer.attention, part) for part in ("query", "key", "value")), layer.output
        for token, (kind, score, colour, size) in enumerate(SEEN):
            embeddings.detection_tokens[0, token, 5 + token] = mark
            query.weight[:3, 5 + token] = torch.tensor(colour, dtype=torch.float32)
            classes, boxes = model.class_labels_classifier.layers[2].weight, model.bbox_predictor.layers[2].weight
            classes[kind, 5 + token] = torch.tensor(91 * score / (1 - score)).log() * 5 / mark  # the other 91 stay 0
            boxes[2:, 5 + token] = torch.tensor(size).logit() * 5 / mark
        for part, scale, pairs in (
            (key.weight, 32 * 5 / mark * 5, ((0, 0), (1, 1), (2, 2))),
            (value.weight, 5, ((0, 3), (1, 4))),
            (dense.dense.weight, 1, ((15, 0), (16, 1))),
        ):
            for row, column in pairs:
                part[row, column] = scale
        for halves in (projection, embeddings.position_embeddings, embeddings.cls_token, embeddings.detection_tokens):
            first, second = halves.split(24, dim=0 if halves is projection else -1)
            second.copy_(-first)
        dense.dense.weight[24:] = -dense.dense.weight[:24]
        for head in (model.class_labels_classifier, model.bbox_predictor):
            for linear in head.layers[:2]:
                linear.weight.copy_(torch.eye(48))
        first, _, last = model.bbox_predictor.layers
        first.bias[15:17] = 20  # so that ReLU lets the place pass, whatever its sign
        last.weight[:2, 15:17] = 5 * torch.eye(2)
        last.bias[:2] = -5 * 20
    model.save_pretrained(target)
    settings = {"do_normalize": True, "do_resize": True, "image_processor_type": "YolosImageProcessor",
                "format": "coco_detection", "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
                "size": {"shortest_edge": 512, "longest_edge": 1333}}  # fmt: skip
    (target / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _clip(target: Path) -> None:
    """A red and a blue rectangle pass each other in front of meadow and sky."""
    from PIL import Image, ImageDraw

    width, height = 854, 480
    for sequence, frames in (("hike", 80), ("hike_25", 25)):
        (target / sequence).mkdir(parents=True)
        for frame in range(frames):
            picture = Image.new("RGB", (width, height), (150, 170, 190))
            draw = ImageDraw.Draw(picture)
            draw.rectangle((0, 330, width, height), fill=(110, 130, 90))
            for x, (top, bottom), half, colour in (
                (80 + 7 * frame, (150, 390), 34, (200, 40, 40)),
                (790 - 2 * frame, (180, 360), 26, (40, 40, 160)),
            ):
                draw.rectangle((x - half, top, x + half, bottom), fill=colour)
            picture.save(target / sequence / f"{frame:05d}.jpg", quality=95)


def _imdb(target: Path) -> None:
    rng = random.Random(0)
    good, bad = ("A joy from start to end.", "I laughed and cried."), ("A waste of two hours.", "I left early.")
    for split, rows in (("train", 480), ("test", 24), ("unsupervised", 12)):
        labels = [-1 if split == "unsupervised" else n % 2 for n in range(rows)]
        texts = [f"{rng.choice(good if label else bad)} Review {n} of {split}.<br />" for n, label in enumerate(labels)]
        _parquet(target / "plain_text" / f"{split}-00000-of-00001.parquet", {"text": texts, "label": labels})
    (target / "README.md").write_text(IMDB_CARD, encoding="utf-8")


def _squad(target: Path, sizes: tuple[int, int] = (36, 18), unanswerable: int = 0, name: str = "plain_text") -> None:
    """One bridge a passage, twelve passages a title; with `unanswerable`, every so many questions have no answer."""
    for split, rows in zip(("train", "validation"), sizes):
        river = "Lune" if split == "train" else "Wyre"
        contexts = [f"The bridge over the {river} was opened in {1800 + n} by the mayor of the town. "
                    f"{'Boats had to wait for it. ' * (n % 7)}" for n in range(rows)]  # fmt: skip
        none = [bool(unanswerable) and n % unanswerable == 1 for n in range(rows)]
        years = [str(1800 + n) for n in range(rows)]
        table = {
            "id": [f"{split}-{n}" for n in range(rows)],
            "title": [f"Bridges {n // 12}" for n in range(rows)],
            "context": contexts,
            "question": ["Who paid for the bridge?" if no else "When was the bridge opened?" for no in none],
            "answers": [{"text": [], "answer_start": []} if no else {"text": [y], "answer_start": [c.index(y)]}
                        for y, c, no in zip(years, contexts, none)],
        }  # fmt: skip
        _parquet(target / name / f"{split}-00000-of-00001.parquet", table)
    (target / "README.md").write_text(SQUAD_CARD.replace("plain_text", name), encoding="utf-8")


def _parquet(path: Path, table: dict) -> None:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(table), path)


@contextlib.contextmanager
def serve(folder: Path):
    """Serve `folder` on a free port of the loopback address; yield its address. Requests are kept in `.requests`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.folder, server.requests = folder, []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def do_POST(self):
        self._answer(
            json.loads(self._body() or b"{}") if "json" in self.headers.get("Content-Type", "") else self._form()
        )

    def log_message(self, *_):
        pass

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _form(self) -> dict:
        return urllib.parse.parse_qs(self._body().decode())

    def _answer(self, posted: dict | None = None):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        pinned = re.search(r"/(?:resolve|revision|tree|paths-info)/([0-9a-f]{40})(?:/|$)", path)
        self.commit = pinned[1] if pinned else COMMIT
        if found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            kind, repository, name = found.groups()
            return self._file(self._folder(kind, repository), name)
        if found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(.*))?", path):
            kind, repository, rest = found.groups()
            return self._about(self._folder(kind, repository), repository, rest or "", posted)
        self._error(404, "EntryNotFound")

    def _folder(self, kind: str | None, repository: str) -> Path:
        return self.server.folder / ("datasets" if kind and kind.startswith("datasets") else "models") / repository

    def _file(self, folder: Path, name: str):
        if not folder.is_dir():
            return self._error(401, "RepoNotFound")
        path = folder / name
        if ".." in name or not path.is_file():
            return self._error(404, "EntryNotFound")
        content = path.read_bytes()
        self._send(200, content, "application/octet-stream", {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'})

    def _about(self, folder: Path, repository: str, rest: str, posted: dict | None):
        if not folder.is_dir():
            return self._error(401, "RepoNotFound")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = {path.relative_to(folder).as_posix(): path for path in files}
        if rest.startswith("paths-info"):
            return self._json([_entry(name, names[name]) for name in (posted or {}).get("paths", []) if name in names])
        if rest.startswith("tree"):
            under = "/".join(rest.split("/")[2:])
            inside = {name: path for name, path in names.items() if not under or name.startswith(under + "/")}
            if under and not inside:
                return self._error(404, "EntryNotFound")
            folders = {
                parent.as_posix() for name in inside for parent in Path(name).parents if parent.as_posix() != "."
            }
            listed = [{"type": "directory", "path": name, "oid": self.commit, "size": 0} for name in sorted(folders)]
            return self._json(listed + [_entry(name, path) for name, path in inside.items()])
        self._json(
            {"_id": COMMIT, "id": repository, "sha": self.commit, "private": False, "gated": False, "disabled": False,
             "tags": [], "downloads": 0, "likes": 0, "lastModified": "2024-01-01T00:00:00.000Z",
             "siblings": [{"rfilename": name} for name in names]}
        )  # fmt: skip

    def _json(self, content):
        self._send(200, json.dumps(content).encode(), "application/json", {})

    def _error(self, status: int, code: str):
        self._send(status, code.encode(), "text/plain", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, content: bytes, kind: str, headers: dict):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted and status == 200:
            first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
            headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"}
            status, content = 206, content[first : last + 1]
        self.send_response(status)
        headers = {"Content-Type": kind, "X-Repo-Commit": self.commit, "Accept-Ranges": "bytes", **headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entry(name: str, path: Path) -> dict:
    content = path.read_bytes()
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


def environment(address: str, cache: Path) -> dict[str, str]:
    """Return the variables that send the client to `address` with an empty cache of its own in `cache`."""
    shutil.rmtree(cache, ignore_errors=True)
    return {
        "HF_ENDPOINT": address,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
