"""Strict validation against pinned schemas: an unknown field is as wrong as a missing one."""

import functools

import jsonschema
import kubernetes_validate

# The oldest release that has all that the manifests use (`preStop.sleep`), and the newest that is known.
RELEASES = ["1.30", "1.37"]


def faults(thing):
    """What is wrong with an object, in words."""
    group = thing["apiVersion"].partition("/")[0]
    if group in ("keda.sh", "monitoring.coreos.com"):
        found = custom(group, thing["kind"]).iter_errors(thing)
        return [f"{fault.json_path}: {fault.message}" for fault in found]
    found = []
    for release in RELEASES:
        try:
            kubernetes_validate.validate(thing, release, strict=True)
        except kubernetes_validate.ValidationError as fault:
            found.append(f"Kubernetes {release}: {'.'.join(map(str, fault.path))}: {fault.message}")
    return found


@functools.cache
def custom(group, kind):
    if group == "keda.sh":
        from cloudcoil.models.keda import v1alpha1 as models
    else:
        from cloudcoil.models.prometheus_operator import v1 as models
    schema = strict(getattr(models, kind).model_json_schema(by_alias=True))
    return jsonschema.Draft202012Validator(schema)


def strict(schema):
    """The same schema, with no other fields than those that it names."""
    for each in [schema, *schema.get("$defs", {}).values()]:
        if "properties" in each:
            each.setdefault("additionalProperties", False)
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return schema
