"""Make data/scripts/attention_views.js.gz: BertViz's drawing code with the two libraries that it needs, in one file.

jQuery and d3 come from the npm registry and are compared with the checksums below; BertViz's three scripts come from
the installed package. Of BertViz only the wrapping changes: what it loaded from a content network by require.js it is
now handed as arguments. One line of the neuron view that looked for its drawing in the whole page looks in its own.

Usage: python tools/make_view_scripts.py [--packages FOLDER]
    --packages FOLDER   where the npm packages jquery-3.7.1.tgz and d3-5.7.0.tgz lie or are to be put (default: a
                        temporary folder, filled from the registry)
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.metadata
import io
import re
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1] / "data" / "scripts"
REGISTRY = "https://registry.npmjs.org"
BERTVIZ = "1.4.1"
VIEWS = ("head_view", "model_view", "neuron_view")
PACKAGES = {  # archive: (address, file in it, SHA-256 of that file)
    "jquery-3.7.1.tgz": ("jquery/-/jquery-3.7.1.tgz", "package/dist/jquery.slim.min.js", "9261efb3407e3a9096e4654750d8eff6b3a663422f48845c7fbcc65034c340cf"),
    "d3-5.7.0.tgz": ("d3/-/d3-5.7.0.tgz", "package/dist/d3.min.js", "bdad5585ef9a965ff25458738309b006058c55f2c78d794d25fbecae35014609"),
}
WRAPPER = re.compile(r"require\.config\(\{.*?\}\);\s*requirejs\(\['jquery', 'd3'\],\s*(.*)\);\s*$", re.DOTALL)


def library(archive: str, folder: Path) -> str:
    """Return the script in one npm archive, downloaded into `folder` if it is not there yet."""
    address, name, expected = PACKAGES[archive]
    path = folder / archive
    if not path.is_file():
        with urllib.request.urlopen(f"{REGISTRY}/{address}", timeout=60) as answer:
            path.write_bytes(answer.read())
    with tarfile.open(path) as packed:
        script = packed.extractfile(name).read()
    found = hashlib.sha256(script).hexdigest()
    if found != expected:
        sys.exit(f"{name} in {path} is not the published one: SHA-256 {found}, expected {expected}")
    return script.decode("utf-8")


def drawing_code(view: str) -> str:
    """Return BertViz's script for one view as a JavaScript function of its parameters, jQuery and d3."""
    files = importlib.metadata.files("bertviz")
    source = next(file for file in files if file.name == f"{view}.js").read_text(encoding="utf-8")
    body = WRAPPER.search(source)
    if not body:
        sys.exit(f"{view}.js of BertViz is not wrapped as expected; is it another version than {BERTVIZ}?")
    function = re.sub(r"^function\s*\(\$, d3\)", "function (params, $, d3)", body[1])
    function, count = re.subn(r"const params = (PYTHON_PARAMS|window\.bertviz_params).*\n", "\n", function)
    if count != 1:
        sys.exit(f"{view}.js of BertViz takes its parameters in another way than expected.")
    function = function.replace('d3.select("#vis")', "d3.select(`#${config.rootDivId} #vis`)")
    return re.sub(r'^ *console\.log\("(d3 version|x)".*\n', "", function, flags=re.MULTILINE)


def bundle(folder: Path) -> str:
    """Return the whole script: run in a page, it leaves `insideBertLibrary` behind and nothing else."""
    jquery, d3 = (library(archive, folder) for archive in PACKAGES)
    notice = f"// BertViz {BERTVIZ}, Jesse Vig, Apache-2.0; changed: data/scripts/README.md says how"
    views = "\n".join([notice, *(f"library.{view} = {drawing_code(view)};" for view in VIEWS)])
    alone = "var define, module, exports;"  # a loader that the page may have is not told
    return "\n".join(
        [
            "(function () {",
            "const library = {};",
            f"(function () {{ {alone}\n{jquery}\n}}).call(library);",
            "library.jQuery = window.jQuery.noConflict(true);",
            f"(function () {{ {alone}\n{d3}\n}}).call(library);",
            views,
            "window.insideBertLibrary = library;",
            "})();",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, help="folder of the npm packages")
    folder = parser.parse_args().packages
    if importlib.metadata.version("bertviz") != BERTVIZ:
        sys.exit(f"made from BertViz {BERTVIZ}; {importlib.metadata.version('bertviz')} is installed")
    with tempfile.TemporaryDirectory() as temporary:
        script = bundle(folder or Path(temporary))
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9, mtime=0) as file:
        file.write(script.encode("utf-8"))
    target = SCRIPTS / "attention_views.js.gz"
    target.write_bytes(packed.getvalue())
    print(f"{target.name}: {len(script):,} characters, {len(packed.getvalue()):,} bytes packed")


if __name__ == "__main__":
    main()
