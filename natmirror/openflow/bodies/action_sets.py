"""The action set that a list of actions writes (1.3.5 §5.10, 1.5.1 §5.6), in one order for all equal sets."""

from natmirror.openflow.bodies.elements import Action, Actions, MatchField

_POSITIONS = {
    "copy_ttl_in": 0,
    "pop_vlan": 1,
    "pop_pbb": 1,
    "pop_mpls": 1,
    "push_mpls": 2,
    "push_pbb": 3,
    "push_vlan": 4,
    "copy_ttl_out": 5,
    "dec_ttl": 6,
    "dec_mpls_ttl": 6,
    "set_queue": 8,
    "group": 9,
    "output": 10,
}
"""The position of each action in an action set's execution; the actions that set fields are between."""
_SET = 7
_IN_ANY_ORDER = ("set_field", "mod_nw_ttl", "set_mpls_ttl")
"""Actions that set a field to a value. Unless others are between, their order has no effect."""


class ActionSet(tuple[Action, ...]):
    """An action set, in the order of its execution, by which it compares."""

    written: Actions
    """The actions that wrote it, in their order."""


def action_set(actions: Actions) -> ActionSet:
    """Return the set in the order of its execution. Of several actions of one kind the last one counts; set_field is a
    kind for each field, and with a mask it counts beside earlier ones.

    An unknown action keeps its position among the actions that set fields, and then their order is kept too.
    """
    found: dict[object, Action] = {}
    for number, action in enumerate(actions):
        kind = _kind_of(action, number)
        found.pop(kind, None)
        found[kind] = action
    setting = [action for action in found.values() if action.name not in _POSITIONS]
    if all(action.name in _IN_ANY_ORDER and _sets_all(action) for action in setting):
        setting.sort()
    others = sorted((action for action in found.values() if action.name in _POSITIONS), key=_position)
    before = [action for action in others if _position(action)[0] < _SET]
    ordered = ActionSet((*before, *setting, *others[len(before) :]))
    ordered.written = actions
    return ordered


def _kind_of(action: Action, number: int) -> object:
    if action.name in _POSITIONS or action.name in _IN_ANY_ORDER[1:]:
        return action.name
    if action.name == "set_field" and _sets_all(action):
        return "set_field", action.args[0].name
    return number


def _sets_all(action: Action) -> bool:
    """Return whether the action sets all bits of its field."""
    field = action.args[0]
    return not isinstance(field, MatchField) or field.mask is None


def _position(action: Action) -> tuple[int, str]:
    return _POSITIONS[action.name], action.name
