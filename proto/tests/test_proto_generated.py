"""The committed code is what the contracts generate, and the contracts are whole."""

import filecmp
import importlib.util
from pathlib import Path

from sanfran_proto.sanfran import v1 as pb

PROTO = Path(__file__).parents[1]


def test_the_generated_code_is_up_to_date(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("generate", PROTO / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.generate(tmp_path)
    made = sorted(
        path.relative_to(tmp_path)
        for path in tmp_path.rglob("*")
        if path.suffix in (".py", ".json")
    )
    assert Path("descriptors.json") in made
    _, stale, missing = filecmp.cmpfiles(
        tmp_path, PROTO / "sanfran_proto", [str(path) for path in made], shallow=False
    )
    assert (stale, missing) == ([], []), "run `make proto`"


def test_a_message_survives_the_wire() -> None:
    event = pb.FunctionEvent(
        revision=7,
        put=pb.FunctionVersion(name="hello", settings=pb.FunctionSettings(env={"A": "1"})),
    )
    assert pb.FunctionEvent.parse(bytes(event)) == event
