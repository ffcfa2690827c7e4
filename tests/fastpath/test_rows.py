"""The typed views of C's structs and the extension's stub describe exactly the library."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints

import pytest

from natmirror._ffi import ffi, lib
from natmirror.fastpath import client_rows, rows, service_rows, sum_rows
from natmirror.linux.nfqueue import PacketRow

if TYPE_CHECKING:
    from natmirror._ffi import CType

STUB = Path(__file__).parent.parent.parent / "natmirror" / "_ffi.pyi"
VIEWS = {
    "nm_backend": rows.BackendRow,
    "nm_budget": rows.Budget,
    "nm_change": rows.ChangeRow,
    "nm_client_use": client_rows.ClientUseRow,
    "nm_changes": rows.ChangesRow,
    "nm_counters": rows.CountersRow,
    "nm_due": rows.DueRow,
    "nm_flow": rows.FlowRow,
    "nm_gear": rows.GearRow,
    "nm_half": rows.HalfRow,
    "nm_holders": rows.HoldersRow,
    "nm_group": sum_rows.GroupRow,
    "nm_leg": rows.LegRow,
    "nm_account_sums": sum_rows.AccountSums,
    "nm_behind": sum_rows.BehindRow,
    "nm_leg_sums": sum_rows.LegSums,
    "nm_limited": rows.LimitedRow,
    "nm_limits": service_rows.LimitsRow,
    "nm_maglev_backend": rows.MaglevRow,
    "nm_looked": rows.LookedRow,
    "nm_mirror": rows.MirrorRow,
    "nm_mirror_times": sum_rows.MirrorTimesRow,
    "nm_network": rows.NetworkRow,
    "nm_options": rows.OptionsRow,
    "nm_out": rows.OutRow,
    "nm_plan": rows.PlanRow,
    "nm_refusals": client_rows.RefusalsRow,
    "nm_ring": rows.RingRow,
    "nm_send": rows.SendRow,
    "nm_service": rows.ServiceRow,
    "nm_service_look": sum_rows.ServiceLookRow,
    "nm_tally": sum_rows.TallyRow,
    "nm_times": sum_rows.TimesRow,
    "nm_traffic": service_rows.TrafficRow,
    "nm_translation": rows.TranslationRow,
}
OPAQUE = {
    "nm_clients": client_rows.ClientTableRow,
    "nm_turns": rows.TurnsRow,
    "nm_flows": rows.FlowTableRow,
    "nm_legs": rows.LegTableRow,
    "nm_chunks": rows.ChunksRow,
}
NOT_PYTHONS = {"nm_heap", "nm_bucket"}


def view_of(c_type: "CType") -> object:
    """Return the Python type that stands for a C type."""
    kind, name = c_type.kind, c_type.cname
    if kind == "primitive":
        return float if name == "double" else int
    if kind == "struct":
        return VIEWS[name]
    target = c_type.item.cname.removeprefix("struct ")
    return OPAQUE[target] if target in OPAQUE else rows.Array[view_of(c_type.item)]  # type: ignore[misc]


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_has_the_fields_of_its_struct(name: str) -> None:
    fields = {field: view_of(about.type) for field, about in ffi.typeof(name).fields}
    assert get_type_hints(VIEWS[name]) == fields


def test_the_view_of_a_queued_packet_has_the_fields_of_its_struct() -> None:
    assert list(get_type_hints(PacketRow)) == [name for name, _ in ffi.typeof("nq_packet").fields]


def test_each_struct_of_the_gear_has_a_view() -> None:
    (names, _, _) = ffi.list_types()
    assert {name for name in names if name.startswith("nm_")} == VIEWS.keys() | OPAQUE.keys() | NOT_PYTHONS


def stubbed() -> Iterator[ast.AnnAssign | ast.FunctionDef]:
    """Return what the stub says of the library."""
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "_Lib")
    return (node for node in body if isinstance(node, ast.AnnAssign | ast.FunctionDef))


CONSTANTS = {
    ast.unparse(node.target): ast.unparse(node.annotation) for node in stubbed() if isinstance(node, ast.AnnAssign)
}
FUNCTIONS = {node.name: node for node in stubbed() if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", CONSTANTS)
def test_the_stub_has_the_constants_type(name: str) -> None:
    value = getattr(lib, name)
    if isinstance(value, ffi.CData):
        c_type = ffi.typeof(value)
        assert (c_type.kind, CONSTANTS[name]) == ("array", str(view_of(c_type)).replace("natmirror.fastpath.rows.", ""))
    else:
        assert CONSTANTS[name] == type(value).__name__


def stub_of(c_type: "CType") -> set[str]:
    """Return how the stub may write a C type."""
    kind, name = c_type.kind, c_type.cname
    if kind == "void":
        return {"None"}
    if kind == "primitive":
        return {"float"} if name == "double" else {"int"}
    item = name.removesuffix("*").removeprefix("struct ").strip()
    if item.startswith(("nl_", "nq")):
        return {"Any"}  # of the linux package, which has its own types for them
    if item == "uint8_t":
        return {"Buffer", "object"}
    if item in VIEWS or item in OPAQUE:
        view = (VIEWS | OPAQUE)[item].__name__
        return {view, f"Array[{view}]"}
    number = "float" if item == "double" else "int"
    return {f"Array[{number}]", f"Sequence[{number}]"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_stub_has_the_functions_signature(name: str) -> None:
    arguments = FUNCTIONS[name].args
    given = [ast.unparse(one.annotation) for one in arguments.posonlyargs + arguments.args if one.annotation]
    c_type = ffi.typeof(getattr(lib, name))
    assert len(given) == len(c_type.args)
    assert all(one in stub_of(arg) for one, arg in zip(given, c_type.args, strict=True))
    returns = FUNCTIONS[name].returns
    assert returns is not None
    assert ast.unparse(returns) in stub_of(c_type.result)
