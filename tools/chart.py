"""Writes the templates of charts/eidos from manifests/fleet: `python -m tools.chart`.

What the overlays change becomes a value: restricted and talos switch lines, replicas above one bring what `ha` does,
and node selectors, images and resources are the user's.
"""

from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final

import yaml

from installer.rendering import Manifest, render
from installer.settings import MANAGED_BY, NAMESPACE

CHART: Final = Path(__file__).parents[1] / "charts/eidos"
_HEADER: Final = "{{/* Written by `make chart` from manifests/fleet, where the reasons are. */}}\n"
_MARK: Final = "⟦{}⟧"
"""Around what becomes an expression; no manifest has such characters."""

_VARIANTS: Final = {
    # kind: what switches to an overlay's form of it
    "DaemonSet": {".Values.agent.restricted": "restricted", ".Values.agent.talos": "talos"},
    "Deployment": {
        "gt (int .Values.aggregator.replicas) 1": "ha",
        ".Values.certManager.enabled": "cert-manager",
    },
}
_CONDITIONAL: Final = {
    "ServiceMonitor": (".Values.serviceMonitor.enabled", "service-monitor"),
    "Certificate": (".Values.certManager.enabled", "cert-manager"),
    "Issuer": (".Values.certManager.enabled", "cert-manager"),
}

# Nodes that no agent is put on are not expected either.
_EXPECTED: Final = (
    "{{- with .Values.agent.nodeSelector }}",
    "{{- $pairs := list }}",
    '{{- range $key, $value := . }}{{- $pairs = append $pairs (printf "%s=%s" $key $value) }}{{- end }}',
    '- {name: EIDOS_NODE_SELECTOR, value: {{ join "," $pairs | quote }}}',
    "{{- end }}",
)

Lines = list[str]


def templates() -> dict[str, str]:
    """Every template by its file name. The namespace is Helm's own business."""
    made = {}
    base = _named(render())
    for key, manifest in base.items():
        if key[0] == "Namespace":
            continue
        others = {when: _named(render([overlay]))[key] for when, overlay in _VARIANTS.get(key[0], {}).items()}
        made[_file(key)] = _HEADER + _text(manifest, others)
    for kind, (when, overlay) in _CONDITIONAL.items():
        for key, manifest in _named(render([overlay])).items():
            if key[0] == kind:
                made[_file(key)] = f"{_HEADER}{{{{- if {when} }}}}\n{_text(manifest, {})}{{{{- end }}}}\n"
    return made


def _named(objects: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    return {(o["kind"], o["metadata"]["name"]): o for o in objects}


def _file(key: tuple[str, str]) -> str:
    return f"{key[0].lower()}-{key[1]}.yaml"


def _text(manifest: Manifest, others: dict[str, Manifest]) -> str:
    lines = _lines(manifest)
    return "\n".join(_merged(lines, {when: _lines(other) for when, other in others.items()})) + "\n"


def _lines(manifest: Manifest) -> Lines:
    marked = _marked(manifest)
    marked["metadata"]["labels"][MANAGED_BY] = _MARK.format(".Release.Service")
    if manifest["kind"] in ("DaemonSet", "Deployment"):
        _mark_pod(marked, "agent" if manifest["kind"] == "DaemonSet" else "aggregator")
    text: str = yaml.safe_dump(marked, sort_keys=False, allow_unicode=True, width=1000)
    return list(_expressions(text.splitlines()))


def _marked(value: Any, key: str = "") -> Any:
    """The object with Helm's namespace in place of ours."""
    if isinstance(value, dict):
        return {name: _marked(part, name) for name, part in value.items()}
    if isinstance(value, list):
        return [_marked(part) for part in value]
    if key == "namespace" and value == NAMESPACE:
        return _MARK.format(".Release.Namespace")
    if isinstance(value, str) and value.endswith(f".{NAMESPACE}.svc"):
        return f"{value.removesuffix(f'{NAMESPACE}.svc')}{_MARK.format('.Release.Namespace')}.svc"
    return value


def _mark_pod(manifest: Manifest, part: str) -> None:
    values = f".Values.{part}"
    pod = manifest["spec"]["template"]["spec"]
    if part == "aggregator":
        manifest["spec"]["replicas"] = _MARK.format(f"{values}.replicas")
        pod["containers"][0]["env"].append(_MARK.format("expected"))
    pod["nodeSelector"] = _MARK.format(f"with {values}.nodeSelector")
    pod["imagePullSecrets"] = _MARK.format("with .Values.imagePullSecrets")
    pod["tolerations"] = _MARK.format(f"block {values}.tolerations")
    for container in pod["containers"]:
        container["image"] = _MARK.format(f"{values}.image")
        container["imagePullPolicy"] = _MARK.format(".Values.imagePullPolicy")
        container["resources"] = _MARK.format(f"block {values}.resources")


def _expressions(lines: Lines) -> Iterator[str]:
    """The marks of a YAML text as expressions of Helm's."""
    for line in lines:
        indent = len(line) - len(line.lstrip())
        key, _, mark = line.partition(": ")
        if mark.startswith("⟦block "):
            yield f"{key}: {{{{- toYaml {mark[7:-1]} | nindent {indent + 2} }}}}"
        elif mark.startswith("⟦with "):
            yield f"{' ' * indent}{{{{- with {mark[6:-1]} }}}}"
            yield f"{key}: {{{{- toYaml . | nindent {indent + 2} }}}}"
            yield f"{' ' * indent}{{{{- end }}}}"
        elif line.strip() == "- ⟦expected⟧":
            yield from (" " * indent + part if part.startswith("-") else part for part in _EXPECTED)
        else:
            yield line.replace("⟦", "{{ ").replace("⟧", " }}")


def _merged(lines: Lines, others: dict[str, Lines]) -> Iterator[str]:
    """The lines all have, and between them what only some have, under their conditions."""
    shared = {when: _shared(lines, other) for when, other in others.items()}
    anchors = [at for at in range(len(lines)) if all(at in places for places in shared.values())]
    last, lasts = -1, dict.fromkeys(others, -1)
    for at in [*anchors, len(lines)]:
        ends = {when: shared[when].get(at, len(other)) for when, other in others.items()}
        between = {when: other[lasts[when] + 1 : ends[when]] for when, other in others.items()}
        yield from _chosen(lines[last + 1 : at], between)
        if at < len(lines):
            yield lines[at]
        last, lasts = at, ends


def _shared(lines: Lines, other: Lines) -> dict[int, int]:
    blocks = SequenceMatcher(None, lines, other, autojunk=False).get_matching_blocks()
    return {block.a + n: block.b + n for block in blocks for n in range(block.size)}


def _chosen(lines: Lines, others: dict[str, Lines]) -> Iterator[str]:
    different = {when: other for when, other in others.items() if other != lines}
    if not different:
        yield from lines
        return
    if len(different) == 1 and not next(iter(different.values())):
        yield f"{{{{- if not {next(iter(different))} }}}}"
        yield from lines
        yield "{{- end }}"
        return
    for number, (when, other) in enumerate(different.items()):
        yield f"{{{{- {'else if' if number else 'if'} {when} }}}}"
        yield from other
    if lines:
        yield "{{- else }}"
        yield from lines
    yield "{{- end }}"


def main() -> None:
    """Write them, and remove what is no template any more."""
    folder = CHART / "templates"
    made = templates()
    for old in folder.glob("*.yaml"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
