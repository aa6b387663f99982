import platform
import subprocess

import pytest

from aevb.reproduction import arithmetic, results

X86 = platform.machine().lower() in ("x86_64", "amd64")


def test_an_unknown_arithmetic_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="unknown arithmetic 'sparc': choose one of native, plain, avx2"):
        arithmetic.environment("sparc", {})


@pytest.mark.parametrize("name", arithmetic.SETTINGS)
def test_an_environment_is_that_of_one_arithmetic(name, monkeypatch):
    around = {"PATH": "a path", "MKL_CBWR": "AVX512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
    found = arithmetic.environment(name, around)
    assert found == {"PATH": "a path"} | arithmetic.SETTINGS[name]
    for variable in arithmetic.VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in found.items():
        monkeypatch.setenv(variable, value)
    assert arithmetic.current() == name


@pytest.mark.skipif(not X86, reason="the switches are those of x86 libraries")
def test_plain_arithmetic_differs_here_in_a_product():
    assert "product" in arithmetic.differing("plain")
    assert arithmetic.differing("native") == []


@pytest.mark.parametrize(("names", "line"), [(["tanh"], "last bits of tanh"), ([], "cannot show: no bit differs")])
def test_it_is_said_whether_a_switch_took(names, line, monkeypatch):
    monkeypatch.setattr(arithmetic, "differing", lambda name: names)
    assert line in arithmetic.description("plain")
    assert arithmetic.description("native") == "arithmetic: native, this machine's own"


def test_what_another_arithmetic_computes_is_kept_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    places = {}
    for name, variables in {**arithmetic.SETTINGS, "other": {"MKL_CBWR": "AVX"}}.items():
        with monkeypatch.context() as patched:
            for variable in arithmetic.VARIABLES:
                patched.delenv(variable, raising=False)
            for variable, value in variables.items():
                patched.setenv(variable, value)
            places[name] = results.live_folder().name
            results.save_measurement("smoke", "a", len(places))
            assert results.measurements("smoke") == {"a": len(places)}
    assert places == {"native": "live", "plain": "live-plain", "avx2": "live-avx2", "other": "live-other"}
    ignored = subprocess.run(
        ["git", "check-ignore", *(f"results/{place}/runs/a.pt" for place in places.values())],
        cwd=arithmetic.ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert len(ignored.stdout.split()) == len(places) or ignored.returncode == 128  # 128: no checkout
