"""What every object of an overlay must keep to. Each rule is a function that yields what is wrong, in words; `RULES` has
them all, and test_refusals.py shows of each that it can refuse."""

import base64

from fleet import (
    AGENTS,
    ROOT,
    containers,
    documented_secrets,
    drain_of,
    labels,
    name_of,
    options,
    pod,
    program_of,
    readme,
    seconds,
    selects,
    values_of,
    variables,
)

RULES = []


def rule(check):
    RULES.append(check)
    return check


def each_container(fleet):
    for workload in fleet.workloads():
        for container in containers(workload):
            yield workload, container


@rule
def nobody_special(fleet):
    for workload in fleet.workloads():
        spec = pod(workload)
        context = spec.get("securityContext", {})
        if not context.get("runAsNonRoot") or not context.get("runAsUser"):
            yield f"{name_of(workload)} may run as root"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name_of(workload)} has no seccomp profile"
        if any(spec.get(key) for key in ["hostNetwork", "hostPID", "hostIPC"]):
            yield f"{name_of(workload)} shares the node's namespaces"
        if any("hostPath" in volume for volume in spec.get("volumes", [])):
            yield f"{name_of(workload)} mounts the node's files"
    for workload, container in each_container(fleet):
        context = container.get("securityContext", {})
        program = program_of(container["image"])
        user = context.get("runAsUser", pod(workload).get("securityContext", {}).get("runAsUser"))
        if program and user != 65532:
            yield f"{name_of(workload)}: {container['name']} is user {user}, not 65532"
        if context.get("runAsNonRoot") is False or user == 0 or context.get("privileged"):
            yield f"{name_of(workload)}: {container['name']} may run as root"
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{name_of(workload)}: {container['name']} may gain privileges"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name_of(workload)}: {container['name']} has capabilities"


@rule
def read_only_root(fleet):
    for workload, container in each_container(fleet):
        if not container.get("securityContext", {}).get("readOnlyRootFilesystem"):
            yield f"{name_of(workload)}: {container['name']} can write its root"


@rule
def limits(fleet):
    for workload, container in each_container(fleet):
        for bound in ["requests", "limits"]:
            given = container.get("resources", {}).get(bound, {})
            for resource in {"cpu", "memory"} - given.keys():
                yield f"{name_of(workload)}: {container['name']} has no {bound} of {resource}"


@rule
def probes(fleet):
    ways = {"livenessProbe": "/livez", "readinessProbe": "/readyz", "startupProbe": "/livez"}
    for workload, container in each_container(fleet):
        program = program_of(container["image"])
        ports = {port["name"] for port in container.get("ports", [])}
        for probe, way in ways.items():
            if probe not in container:
                yield f"{name_of(workload)}: {container['name']} has no {probe}"
                continue
            if not program:
                continue
            wanted = "/healthz" if program == "mock-llm" else way
            get = container[probe].get("httpGet", {})
            if get.get("path") != wanted or get.get("port") not in ports:
                yield f"{name_of(workload)}: the {probe} of {container['name']} asks for another page than {wanted}"


@rule
def disruption_budgets(fleet):
    for workload in fleet.of("Deployment"):
        budgets = [each for each in fleet.of("PodDisruptionBudget") if selects(each["spec"]["selector"], labels(workload))]
        if len(budgets) != 1:
            yield f"{name_of(workload)} has {len(budgets)} disruption budgets"
        for budget in budgets:
            if budget["spec"].get("maxUnavailable") != 1:
                yield f"{name_of(budget)} keeps a node with one pod alone from being drained, or lets all pods go"


@rule
def rolling_updates(fleet):
    for workload in fleet.of("Deployment"):
        if workload["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxUnavailable") != 0:
            yield f"{name_of(workload)} takes pods away before there are new ones"


@rule
def spread(fleet):
    for workload in fleet.of("Deployment"):
        constraints = pod(workload).get("topologySpreadConstraints", [])
        if program_of(containers(workload)[0]["image"]) == "mock-llm":
            continue
        ours = [each for each in constraints if selects(each["labelSelector"], labels(workload))]
        if "app.kubernetes.io/name" not in str(ours) or len(ours) < 2:
            yield f"{name_of(workload)} is not spread over nodes and zones"


@rule
def fixed_tags(fleet):
    for workload, container in each_container(fleet):
        _, _, tag = container["image"].split("/")[-1].partition(":")
        if tag in ("", "latest"):
            yield f"{name_of(workload)}: the image {container['image']} may be another one tomorrow"


@rule
def accounts(fleet):
    used = []
    for workload in fleet.workloads():
        spec = pod(workload)
        name = spec.get("serviceAccountName", "default")
        account = fleet.get("ServiceAccount", name)
        if name == "default" or account is None:
            yield f"{name_of(workload)} has no account of its own"
        elif account.get("automountServiceAccountToken") is not False:
            yield f"{name_of(account)} gives its pods a token"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{name_of(workload)} takes a token"
        if name in used:
            yield f"{name_of(workload)} has another one's account"
        used.append(name)


@rule
def drain_before_the_end(fleet):
    for workload, container in each_container(fleet):
        program = program_of(container["image"])
        if not program:
            continue
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        drain = drain_of(program, fleet.environment(container))
        grace = pod(workload).get("terminationGracePeriodSeconds", 30)
        if pause + drain + 5 > grace:
            yield f"{name_of(workload)} is killed after {grace} s, and goes within {pause} + {drain} s"


@rule
def known_options(fleet):
    for workload, container in each_container(fleet):
        program = program_of(container["image"])
        if not program:
            continue
        given = {arg.split("=")[0] for arg in container.get("args", []) if arg.startswith("--")}
        for unknown in sorted(given - options(program)) + sorted(fleet.environment(container).keys() - variables(program)):
            yield f"{name_of(workload)}: {program} knows no {unknown}"


@rule
def references(fleet):
    """Each ConfigMap and its keys are there; each Secret and its keys too, or README.md asks for them."""
    secrets = documented_secrets() | {
        (each["metadata"]["name"], key) for each in fleet.of("Secret") for key in each.get("data", {})
    }
    maps = {each["metadata"]["name"]: each["data"] for each in fleet.of("ConfigMap")}

    def asked(workload):
        for container in containers(workload):
            for source in container.get("envFrom", []):
                yield "ConfigMap", source["configMapRef"]["name"], None
            for variable in container.get("env", []):
                source = variable.get("valueFrom", {})
                for kind, way in [("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")]:
                    if way in source:
                        yield kind, source[way]["name"], source[way]["key"]
        for volume in pod(workload).get("volumes", []):
            for item in volume.get("secret", {}).get("items", [{}]):
                if "secret" in volume:
                    yield "Secret", volume["secret"]["secretName"], item.get("key")
            if "configMap" in volume:
                yield "ConfigMap", volume["configMap"]["name"], None

    for thing in fleet.workloads():
        for kind, name, key in asked(thing):
            # Without a key it is all that there are.
            keys = [each for secret, each in secrets if secret == name] if kind == "Secret" else maps.get(name, [])
            there = bool(keys) if key is None else key in keys
            if not there:
                yield f"{name_of(thing)}: nobody gives {kind} {name} {key or ''}"
    for thing in fleet.of("TriggerAuthentication"):
        for each in thing["spec"]["secretTargetRef"]:
            if (each["name"], each["key"]) not in secrets:
                yield f"{name_of(thing)}: nobody gives Secret {each['name']} {each['key']}"
    for thing in fleet.of("Ingress"):
        for each in thing["spec"].get("tls", []):
            if (each["secretName"], "tls.crt") not in secrets:
                yield f"{name_of(thing)}: nobody gives Secret {each['secretName']}"


@rule
def no_secret_is_told(fleet):
    """What stands in the tree is no secret: a key is a file or a reference, and the trial's Redis has no password."""
    harmless = {"", "none", "disable", "redis://redis:6379", "redis.storyfleet.svc:6379"}
    for secret in fleet.of("Secret"):
        for key, value in secret["data"].items():
            if base64.b64decode(value).decode() not in harmless:
                yield f"{name_of(secret)}: the value of {key} stands in the tree"
    for workload, container in each_container(fleet):
        for variable, value in fleet.environment(container).items():
            if variable in ("REDIS_URL", "LLM_API_KEY") and value is not None:
                yield f"{name_of(workload)}: the value of {variable} stands in the tree"


@rule
def services(fleet):
    for service in fleet.of("Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        chosen = [each for each in fleet.workloads() if selects(selector, labels(each))]
        if len(chosen) != 1:
            yield f"{name_of(service)} selects the pods of {len(chosen)} workloads"
        for workload in chosen:
            there = {port["name"] for each in containers(workload) for port in each.get("ports", [])}
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in there:
                    yield f"{name_of(service)}: {name_of(workload)} has no port {port['targetPort']}"
    for ingress in fleet.of("Ingress"):
        for path in [path for each in ingress["spec"]["rules"] for path in each["http"]["paths"]]:
            backend = path["backend"]["service"]
            service = fleet.get("Service", backend["name"])
            if not service or backend["port"]["name"] not in [port["name"] for port in service["spec"]["ports"]]:
                yield f"{name_of(ingress)}: there is no Service {backend}"


@rule
def network(fleet):
    """Every pod is shut in both ways, and what opens it selects pods that are there and ports that they have."""
    policies = fleet.of("NetworkPolicy")
    for workload in fleet.workloads():
        ours = [each for each in policies if selects(each["spec"]["podSelector"], labels(workload))]
        for way in ["Ingress", "Egress"]:
            if not any(way in each["spec"]["policyTypes"] for each in ours):
                yield f"{name_of(workload)} has no policy for its {way}"
    for policy in policies:
        chosen = [each for each in fleet.workloads() if selects(policy["spec"]["podSelector"], labels(each))]
        if not chosen:
            yield f"{name_of(policy)} selects no pod"
        there = {port["name"] for each in chosen for container in containers(each) for port in container.get("ports", [])}
        for opened in policy["spec"].get("ingress", []):
            if not opened.get("from"):
                yield f"{name_of(policy)} lets everybody in"
            for port in opened.get("ports", []):
                if port["port"] not in there:
                    yield f"{name_of(policy)}: nobody has the port {port['port']}"
        for opened in policy["spec"].get("egress", []):
            if not opened.get("to") or not opened.get("ports"):
                yield f"{name_of(policy)} lets everything out"


@rule
def streams_unbuffered(fleet):
    beat = 15
    for ingress in fleet.of("Ingress"):
        said = ingress["metadata"].get("annotations", {})
        prefix = "nginx.ingress.kubernetes.io/"
        if said.get(prefix + "proxy-buffering") != "off":
            yield f"{name_of(ingress)} holds text back"
        for way in ["read", "send"]:
            if int(said.get(f"{prefix}proxy-{way}-timeout", 0)) < 4 * beat:
                yield f"{name_of(ingress)} ends quiet sockets (proxy-{way}-timeout)"


@rule
def labelled(fleet):
    for each in fleet.workloads() + fleet.of("Service") + fleet.of("ScaledObject"):
        for label in ["app.kubernetes.io/name", "app.kubernetes.io/part-of"]:
            found = labels(each) if "template" in each["spec"] else each["metadata"].get("labels", {})
            if label not in found:
                yield f"{name_of(each)} has no label {label}"


@rule
def one_namespace(fleet):
    for each in fleet.objects:
        if each["kind"] != "Namespace" and each["metadata"].get("namespace") != "storyfleet":
            yield f"{name_of(each)} is in another namespace"


@rule
def prompts(fleet):
    """Each agent has every prompt of its folder, as it is, under <its folder>/<its name>."""
    for agent in AGENTS:
        files = {path.name: path.read_text() for path in (ROOT / "prompts" / agent).glob("*.md")}
        if fleet.config(f"prompts-{agent}") != files:
            yield f"the ConfigMap of {agent} is not prompts/{agent}: see prompts/kustomization.yaml"
        spec = pod(fleet.get("Deployment", agent))
        folder = fleet.environment(spec["containers"][0]).get("STORYFLEET_PROMPTS")
        mounts = {each["mountPath"]: each for each in spec["containers"][0]["volumeMounts"]}
        mount = mounts.get(f"{folder}/{agent}", {})
        volume = next((each for each in spec["volumes"] if each["name"] == mount.get("name")), {})
        if not volume.get("configMap", {}).get("name", "").startswith(f"prompts-{agent}-") or "subPath" in mount:
            yield f"{agent} does not find its prompts in {folder}"


@rule
def the_signal_is_xlen(fleet):
    """One trigger a shard, of the stream's length; KEDA counts pending entries as soon as a consumer group is named."""
    settings = fleet.config("fleet")
    shards = range(int(settings["STORYFLEET_SHARDS"]))
    for scaled in fleet.of("ScaledObject"):
        agent = scaled["spec"]["scaleTargetRef"]["name"]
        target = fleet.get("Deployment", agent)
        if not target or "replicas" in target["spec"]:
            yield f"{name_of(scaled)}: its Deployment is not there, or says itself how many there are"
        for trigger in scaled["spec"]["triggers"]:
            said = trigger["metadata"].keys()
            if said & {"consumerGroup", "lagCount", "pendingEntriesCount"} or "streamLength" not in said:
                yield f"{name_of(scaled)} counts something else than XLEN"
            elif int(trigger["metadata"]["streamLength"]) > int(fleet.config("agents")["STORYFLEET_CONCURRENCY"]):
                yield f"{name_of(scaled)} wants more of a worker than it takes at a time"
            if not fleet.get("TriggerAuthentication", trigger["authenticationRef"]["name"]):
                yield f"{name_of(scaled)} does not know Redis's address"
        streams = [trigger["metadata"]["stream"] for trigger in scaled["spec"]["triggers"]]
        if streams != [f"{settings['STORYFLEET_PREFIX']}:{{{shard}}}:work:{agent}" for shard in shards]:
            yield f"{name_of(scaled)} looks at {streams}, and there are {len(shards)} shards"
        elif len(streams) > 1:
            told = scaled["spec"].get("advanced", {}).get("scalingModifiers", {})
            if told.get("formula") != " + ".join(trigger.get("name", "") for trigger in scaled["spec"]["triggers"]):
                yield f"{name_of(scaled)} does not add up its streams: {told.get('formula')}"
            if {trigger["metadata"].get("streamLength") for trigger in scaled["spec"]["triggers"]} != {told.get("target")}:
                yield f"{name_of(scaled)} has another target than its streams"


# How KEDA is told where Redis is, by the client that it asks with.
CLIENTS = {"redis-streams": "address", "redis-cluster-streams": "addresses", "redis-sentinel-streams": "addresses"}


@rule
def the_scalers_client_finds_redis(fleet):
    """Its plain client knows one server, that of a cluster follows streams from master to master, Sentinel's asks for the master."""
    for scaled in fleet.of("ScaledObject"):
        triggers = scaled["spec"]["triggers"]
        kinds = {trigger["type"] for trigger in triggers}
        if len(kinds) > 1 or not kinds <= CLIENTS.keys():
            yield f"{name_of(scaled)} asks as {kinds}"
            continue
        [kind] = kinds
        for trigger in triggers:
            access = fleet.get("TriggerAuthentication", trigger["authenticationRef"]["name"])
            given = {each["parameter"] for each in access["spec"]["secretTargetRef"]} if access else set()
            if given & {"address", "addresses"} != {CLIENTS[kind]}:
                yield f"{name_of(scaled)}: {kind} reads {CLIENTS[kind]}, and is told {given}"
        if kind == "redis-sentinel-streams":
            if not all(trigger["metadata"].get("sentinelMaster") for trigger in triggers):
                yield f"{name_of(scaled)} does not name its master to Sentinel"
            ways = [way for each in fleet.of("NetworkPolicy") for way in each["spec"].get("egress", [])]
            if not any({6379, 26379} <= {port["port"] for port in way["ports"]} for way in ways):
                yield f"{name_of(scaled)}: nobody is let out to Sentinel"


@rule
def one_short_lease(fleet):
    """What a worker holds that dies is taken over after a lease: a short one, the same in the whole fleet."""
    leases = {
        fleet.environment(container).get("STORYFLEET_LEASE")
        for _, container in each_container(fleet)
        if program_of(container["image"]) in AGENTS
    }
    if len(leases) != 1 or not all(lease and seconds(lease) <= 30 for lease in leases):
        yield f"the agents have leases of {leases}"


@rule
def one_second_tier(fleet):
    """What the endpoint must see before readers do, no agent may show: all are told who judges beside the rules."""
    tiers = {
        fleet.environment(container).get("STORYFLEET_TIER2")
        for _, container in each_container(fleet)
        if program_of(container["image"]) in AGENTS
    }
    if len(tiers) != 1 or None in tiers:
        yield f"the agents have second tiers of {tiers}"


@rule
def placeholders(fleet):
    """What must be set is in README.md."""
    for value in values_of([each for each in fleet.objects if each["metadata"]["name"].split("-")[0] != "prompts"]):
        if (".example" in value or "192.0.2." in value) and f"`{value}`" not in readme():
            yield f"README.md does not say that {value} is to be set"
