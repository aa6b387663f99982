"""The project as a whole: its files, dependencies, imports and commands."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from aevb import __main__ as cli
from aevb.algorithms import ALGORITHMS
from aevb.book import api, notebooks, refresh
from aevb.datasets import DATASETS
from aevb.reproduction import claims, results

ROOT = notebooks.ROOT
MODULES = sorted(path for path in (ROOT / "aevb").rglob("*.py") if path.name != "__init__.py")
A_FOLDER = re.compile(rf"(?<![\w.~/+-])((/home|/root|/work|/Users)/\w+|{re.escape(str(ROOT))}/)")
PACKAGES = {"PIL": "pillow", "pyro": "pyro-ppl", "yaml": "pyyaml"}  # where the name imported is not the name installed


@pytest.fixture
def kept(checkout) -> list[Path]:
    """Every file that is committed or would be."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=checkout, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def imports(path: Path) -> list[ast.Import | ast.ImportFrom]:
    return [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]


def outside(paths: list[Path]) -> set[str]:
    """The packages imported by `paths` that are neither Python's nor the project's."""
    names = set()
    for node in (node for path in paths for node in imports(path)):
        whole = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        names |= {name.split(".")[0] for name in whole}
    own = {"aevb", "benchmarks", "tests", "conftest", *(path.stem for path in (ROOT / "tests").rglob("*.py"))}
    return {normal(PACKAGES.get(name, name)) for name in names - own - set(sys.stdlib_module_names)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def in_folder(name: str) -> list[Path]:
    return [path for path in MODULES if path.parent == ROOT / name and path.name != "__main__.py"]


def declared(extra: str = "") -> set[str]:
    """The packages that `aevb[extra]` asks for, and with them those of the extras that it names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(project["optional-dependencies"][extra] if extra else [])]
    names = {normal(re.match(r"[\w.-]+", line)[0]) for line in lines} - {"aevb"}
    return names.union(*(declared(inner) for line in lines for inner in re.findall(r"^aevb\[(\w+)\]", line)))


def pinned(requirements: str = "requirements.txt") -> dict[str, str]:
    lines = (ROOT / requirements).read_text(encoding="utf-8").splitlines()
    pins = [re.fullmatch(r"([\w.-]+)==([\w.]+)", line) for line in lines if line and not line.startswith("#")]
    assert all(pins), "a line that is no exact pin"
    return {normal(pin[1]): pin[2] for pin in pins}


@pytest.mark.parametrize("line", ["see {}home/me", "'{}Users/me/x'", "({}work/main)", "file:{}root/x", f"{ROOT}{{}}x"])
def test_a_folder_of_a_machine_is_recognised(line):
    assert A_FOLDER.search(line.format("/"))
    assert not A_FOLDER.search("https://example.org/home/page, ../a/main, book/root/x, ~/a/x")


def test_no_file_names_a_folder_of_someones_machine(kept):
    for path in kept:
        if path.suffix not in (".png", ".jpg", ".ico", ".woff2", ".npz"):
            found = [line[:200] for line in path.read_text(encoding="utf-8").splitlines() if A_FOLDER.search(line)]
            assert not found, f"{path.relative_to(ROOT)}: {found[0]}"


def test_nothing_kept_is_large(kept):
    for path in kept:
        assert path.stat().st_size < 2.5e6, path  # the explorer's notebook carries two trained models


def test_nothing_built_or_private_is_kept(kept):
    parts = {part for path in kept for part in path.relative_to(ROOT).parts}
    assert not parts & {"_build", "live", "__pycache__", ".venv", ".ipynb_checkpoints", ".env", ".DS_Store"}


# dependencies


def test_everything_needed_is_pinned_exactly():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    needed = {name for extra in ("", "reproduction", "book", "dask") for name in declared(extra)}
    assert needed | {normal(re.match(r"[\w.-]+", line)[0]) for line in build} <= set(pinned())
    assert outside([*MODULES, *(ROOT / "tests").rglob("*.py")]) <= set(pinned())


def test_the_benchmarks_pin_what_they_alone_need():
    """Pyro is their peer: no part of the book's environment."""
    extra = pinned("benchmarks/requirements.txt")
    assert not set(extra) & set(pinned())
    needed = outside(sorted((ROOT / "benchmarks").glob("*.py"))) - set(pinned())
    assert needed == {"pyro-ppl"} <= set(extra)


def test_the_core_imports_what_it_declares_and_nothing_else():
    assert outside(in_folder("aevb")) == declared()


@pytest.mark.parametrize("extra", ["reproduction", "book"])
def test_what_a_package_imports_is_declared_by_its_extra(extra):
    of_the_book = [*in_folder("aevb/chapters"), ROOT / "aevb" / "__main__.py"] * (extra == "book")
    assert outside([*in_folder(f"aevb/{extra}"), *of_the_book]) <= declared(extra)


def test_what_the_packages_hold_beside_modules_is_installed_too():
    """The marker that says that they have types, and what the widgets are made of."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    folders = {ROOT / name.replace(".", "/"): patterns for name, patterns in data.items()}
    installed = {path for folder, patterns in folders.items() for pattern in patterns for path in folder.glob(pattern)}
    held = {path for path in (ROOT / "aevb").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert held == installed >= {ROOT / "aevb" / "py.typed"}


def test_the_pins_are_what_runs_here():
    """The environment is the lock's, but for torch's build."""
    from importlib.metadata import version

    differing = {name: (pin, version(name)) for name, pin in pinned().items() if version(name).split("+")[0] != pin}
    assert not differing


# structure


def module(path: Path) -> str:
    """The dotted name of a module's file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_imports_point_up_the_documented_order():
    order = [*(name for package in api.PACKAGES.values() for name in api.modules(package)), "aevb.__main__"]
    assert sorted(order) == sorted(map(module, MODULES))
    for path in MODULES:
        for node in imports(path):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path.name}: a relative import"
                is_package = (ROOT / node.module.replace(".", "/") / "__init__.py").exists()
                names = [f"{node.module}.{name}" for name in names] if is_package else [node.module]
            for name in (name for name in names if name.startswith("aevb")):
                assert order.index(name) < order.index(module(path)), f"{module(path)} imports {name}"


def test_no_module_and_no_function_is_long():
    """A module has one reason to change, and a function fits a screen."""
    for path in [*MODULES, *(ROOT / "benchmarks").glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 300, module(path)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 40, f"{module(path)}.{node.name}"


def test_nothing_is_decided_by_the_name_of_a_dataset_or_an_algorithm():
    """Its own value holds all that is special about it."""
    names = {*ALGORITHMS, *DATASETS}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare | ast.match_case):
                constants = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                assert not constants & names, f"{module(path)}, line {node.lineno}: {ast.unparse(node)}"


def test_make_runs_commands_that_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    targets = re.findall(r"^(\w+):", makefile, re.MULTILINE)
    assert sorted(phony.split()) == sorted(targets)
    assert {"reproduce", "test", "book", "notebooks"} <= set(targets)
    (recipe,) = re.findall(r"^bench:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    scripts = re.findall(r"^\t\$\(VENV\)/bin/python -m benchmarks\.(\w+)$", recipe, re.MULTILINE)
    assert len(scripts) == recipe.count("\n") == 4
    assert all((ROOT / "benchmarks" / f"{script}.py").exists() for script in scripts)
    for target in sorted(set(targets) - {"clean", "bench"}):
        (words,) = re.findall(rf"^{target}:.*\n\t\$\(RUN\) (.*)$", makefile, re.MULTILINE)
        options = cli._parser().parse_args(words.replace("$(PROFILE)", "smoke").split())
        assert words.split()[0] == target
        assert options.command.__name__ in dir(cli)


def test_the_commands_and_links_of_the_readme_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    asked = set(re.findall(r"(?:^|`)make ([a-z]+)", readme, re.MULTILINE))
    assert {"reproduce", "test"} <= asked <= set(targets)
    for command in re.findall(r"-m aevb ([a-z]+)", readme):
        cli._parser().parse_args([command] + ["figure2"] * (command in ("record", "train")))
    for target in re.findall(r"\]\(([^)#:]+)\)", readme):
        # `../..` is the repository's own address on GitHub, whoever's it is
        assert target == "../../deployments" or (ROOT / target).exists(), target


def test_the_code_of_the_readme_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(code, {})


def test_the_readme_says_what_the_record_does(tmp_path, monkeypatch):
    """`python -m aevb notebooks` writes these lines; a longer record changes them."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"<!-- claims -->{claims.headline(claims.of_record())}<!-- end -->" in readme
    assert f"<!-- headline -->\n{results.headline()}\n<!-- end -->" in readme
    stale = re.sub(r"(?s)(<!-- \w+ -->\n?).*?(\n?<!-- end -->)", r"\1of old\2", readme)
    (tmp_path / "README.md").write_text(stale, encoding="utf-8")
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    refresh.write_headline()
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == readme


def test_the_changelog_begins_with_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    headings = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] in ("Unreleased", version)
    assert version in headings
