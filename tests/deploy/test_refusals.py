"""Each rule can refuse: one thing is spoilt in a sound overlay, and the rule, which had nothing to say, says what."""

import policy
import pytest
import schema

SPOILT = []


def spoils(rule, *, of="production"):
    """The function below spoils a fleet so that `rule` must refuse it."""

    def take(spoil):
        SPOILT.append(pytest.param(rule, of, spoil, id=f"{rule.__name__}-{spoil.__name__}"))
        return spoil

    return take


def narrator(fleet):
    return fleet.get("Deployment", "narrator")["spec"]["template"]["spec"]


def container(fleet):
    return narrator(fleet)["containers"][0]


@spoils(policy.nobody_special)
def root_allowed(fleet):
    narrator(fleet)["securityContext"]["runAsNonRoot"] = False


@spoils(policy.nobody_special)
def another_user(fleet):
    container(fleet)["securityContext"]["runAsUser"] = 1000


@spoils(policy.nobody_special)
def a_capability(fleet):
    container(fleet)["securityContext"]["capabilities"]["add"] = ["NET_ADMIN"]


@spoils(policy.nobody_special)
def more_privileges(fleet):
    del container(fleet)["securityContext"]["allowPrivilegeEscalation"]


@spoils(policy.nobody_special)
def no_seccomp(fleet):
    narrator(fleet)["securityContext"]["seccompProfile"]["type"] = "Unconfined"


@spoils(policy.nobody_special)
def the_nodes_network(fleet):
    narrator(fleet)["hostNetwork"] = True


@spoils(policy.nobody_special)
def the_nodes_files(fleet):
    narrator(fleet)["volumes"].append({"name": "node", "hostPath": {"path": "/"}})


@spoils(policy.read_only_root)
def a_root_that_can_be_written(fleet):
    container(fleet)["securityContext"]["readOnlyRootFilesystem"] = False


@spoils(policy.limits)
def no_limit_of_memory(fleet):
    del container(fleet)["resources"]["limits"]["memory"]


@spoils(policy.probes)
def no_probe(fleet):
    del container(fleet)["readinessProbe"]


@spoils(policy.probes)
def a_page_that_is_none(fleet):
    container(fleet)["livenessProbe"]["httpGet"]["path"] = "/healthz"


@spoils(policy.disruption_budgets)
def no_budget(fleet):
    fleet.objects.remove(fleet.get("PodDisruptionBudget", "dialogue"))


@spoils(policy.disruption_budgets)
def a_budget_that_holds_nodes(fleet):
    fleet.get("PodDisruptionBudget", "dialogue")["spec"]["maxUnavailable"] = 0


@spoils(policy.rolling_updates)
def pods_taken_away_first(fleet):
    fleet.get("Deployment", "gateway")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] = 1


@spoils(policy.spread)
def all_on_one_node(fleet):
    del narrator(fleet)["topologySpreadConstraints"]


@spoils(policy.fixed_tags)
def the_latest(fleet):
    container(fleet)["image"] = "storyfleet/narrator:latest"


@spoils(policy.fixed_tags)
def no_tag(fleet):
    container(fleet)["image"] = "storyfleet/narrator"


@spoils(policy.accounts)
def the_default_account(fleet):
    del narrator(fleet)["serviceAccountName"]


@spoils(policy.accounts)
def a_token(fleet):
    narrator(fleet)["automountServiceAccountToken"] = True


@spoils(policy.accounts)
def an_account_that_gives_tokens(fleet):
    del fleet.get("ServiceAccount", "narrator")["automountServiceAccountToken"]


@spoils(policy.drain_before_the_end)
def killed_while_it_drains(fleet):
    narrator(fleet)["terminationGracePeriodSeconds"] = 45


@spoils(policy.drain_before_the_end)
def the_default_grace_with_the_default_drain(fleet):
    del narrator(fleet)["terminationGracePeriodSeconds"]
    container(fleet)["env"] = [each for each in container(fleet)["env"] if each["name"] != "STORYFLEET_DRAIN"]


@spoils(policy.drain_before_the_end)
def a_long_pause(fleet):
    gateway = fleet.get("Deployment", "gateway")["spec"]["template"]["spec"]["containers"][0]
    gateway["lifecycle"]["preStop"]["sleep"]["seconds"] = 50


@spoils(policy.known_options)
def an_unknown_option(fleet):
    container(fleet)["args"].append("--brave=yes")


@spoils(policy.known_options)
def an_unknown_variable(fleet):
    container(fleet)["env"].append({"name": "STORYFLEET_JWKS_URL", "value": "https://login.example/jwks.json"})


@spoils(policy.known_options)
def an_unknown_setting(fleet):
    fleet.config("agents")["STORYFLEET_COURAGE"] = "1"


@spoils(policy.references)
def an_unknown_secret(fleet):
    container(fleet)["env"][0]["valueFrom"]["secretKeyRef"]["key"] = "uri"


@spoils(policy.references)
def an_unknown_secret_file(fleet):
    narrator(fleet)["volumes"][0]["secret"]["items"][0]["key"] = "token"


@spoils(policy.references)
def an_unknown_config_map(fleet):
    container(fleet)["envFrom"][0]["configMapRef"]["name"] = "fleet"


@spoils(policy.references)
def an_unknown_secret_of_the_scaler(fleet):
    fleet.of("TriggerAuthentication")[0]["spec"]["secretTargetRef"][0]["key"] = "host"


@spoils(policy.references)
def an_unknown_certificate(fleet):
    fleet.of("Ingress")[0]["spec"]["tls"][0]["secretName"] = "story"


@spoils(policy.no_secret_is_told, of="local")
def a_key_in_the_tree(fleet):
    fleet.get("Secret", "storyfleet-llm")["data"]["key"] = "c2stbGl2ZQ=="


@spoils(policy.no_secret_is_told)
def a_password_in_the_tree(fleet):
    container(fleet)["env"][0] = {"name": "REDIS_URL", "value": "redis://:password@redis.example:6379"}


@spoils(policy.services)
def a_service_of_nobody(fleet):
    fleet.get("Service", "gateway")["spec"]["selector"]["app.kubernetes.io/name"] = "door"


@spoils(policy.services)
def a_port_of_nobody(fleet):
    fleet.get("Service", "gateway")["spec"]["ports"][0]["targetPort"] = "https"


@spoils(policy.services)
def an_ingress_to_nobody(fleet):
    fleet.of("Ingress")[0]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = "door"


@spoils(policy.network)
def no_walls(fleet):
    fleet.objects.remove(fleet.get("NetworkPolicy", "nothing"))
    fleet.objects.remove(fleet.get("NetworkPolicy", "metrics"))


@spoils(policy.network)
def an_open_door(fleet):
    del fleet.get("NetworkPolicy", "readers")["spec"]["ingress"][0]["from"]


@spoils(policy.network)
def every_way_out(fleet):
    del fleet.get("NetworkPolicy", "internet")["spec"]["egress"][0]["to"]


@spoils(policy.network, of="local")
def a_door_to_nobody(fleet):
    fleet.get("NetworkPolicy", "redis-clients")["spec"]["podSelector"]["matchLabels"] = {"app": "redis"}


@spoils(policy.streams_unbuffered)
def text_held_back(fleet):
    del fleet.of("Ingress")[0]["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-buffering"]


@spoils(policy.streams_unbuffered)
def quiet_sockets_ended(fleet):
    fleet.of("Ingress")[0]["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-read-timeout"] = "10"


@spoils(policy.labelled)
def no_label(fleet):
    del fleet.get("Service", "gateway")["metadata"]["labels"]["app.kubernetes.io/name"]


@spoils(policy.one_namespace)
def another_namespace(fleet):
    del fleet.get("Service", "gateway")["metadata"]["namespace"]


@spoils(policy.prompts)
def a_prompt_less(fleet):
    fleet.config("prompts-narrator").popitem()


@spoils(policy.prompts)
def another_folder(fleet):
    container(fleet)["volumeMounts"][1]["mountPath"] = "/etc/storyfleet/prompts"


@spoils(policy.the_signal_is_xlen)
def pending_counted(fleet):
    fleet.get("ScaledObject", "dialogue")["spec"]["triggers"][0]["metadata"]["consumerGroup"] = "fleet"


@spoils(policy.the_signal_is_xlen)
def another_stream(fleet):
    fleet.config("fleet")["STORYFLEET_PREFIX"] = "test"


@spoils(policy.the_signal_is_xlen)
def a_shard_that_nobody_looks_at(fleet):
    fleet.config("fleet")["STORYFLEET_SHARDS"] = "2"


@spoils(policy.the_signal_is_xlen)
def more_than_a_worker_takes(fleet):
    fleet.config("agents")["STORYFLEET_CONCURRENCY"] = "16"


@spoils(policy.the_signal_is_xlen)
def replicas_set_back(fleet):
    fleet.get("Deployment", "dialogue")["spec"]["replicas"] = 2


@spoils(policy.the_signal_is_xlen, of="cluster")
def a_shard_that_is_not_added_up(fleet):
    told = fleet.get("ScaledObject", "dialogue")["spec"]["advanced"]["scalingModifiers"]
    told["formula"] = told["formula"].removesuffix(" + shard11")


@spoils(policy.the_signal_is_xlen, of="cluster")
def another_target_for_all(fleet):
    fleet.get("ScaledObject", "dialogue")["spec"]["advanced"]["scalingModifiers"]["target"] = "24"


@spoils(policy.the_scalers_client_finds_redis, of="cluster")
def one_server_asked_for_all_streams(fleet):
    for trigger in fleet.get("ScaledObject", "narrator")["spec"]["triggers"]:
        trigger["type"] = "redis-streams"


@spoils(policy.the_scalers_client_finds_redis, of="cluster")
def lists_counted(fleet):
    for trigger in fleet.get("ScaledObject", "narrator")["spec"]["triggers"]:
        trigger["type"] = "redis-cluster"


@spoils(policy.the_scalers_client_finds_redis)
def a_cluster_at_one_address(fleet):
    fleet.get("ScaledObject", "narrator")["spec"]["triggers"][0]["type"] = "redis-cluster-streams"


@spoils(policy.the_scalers_client_finds_redis, of="sentinel")
def a_master_without_a_name(fleet):
    del fleet.get("ScaledObject", "moderator")["spec"]["triggers"][0]["metadata"]["sentinelMaster"]


@spoils(policy.the_scalers_client_finds_redis, of="sentinel")
def no_way_to_sentinel(fleet):
    fleet.get("NetworkPolicy", "redis")["spec"]["egress"][0]["ports"].pop()


@spoils(policy.one_short_lease)
def two_leases(fleet):
    container(fleet)["env"].append({"name": "STORYFLEET_LEASE", "value": "20s"})


@spoils(policy.one_second_tier)
def an_endpoint_that_not_all_agents_wait_for(fleet):
    container(fleet)["env"].append({"name": "STORYFLEET_TIER2", "value": "endpoint"})


@spoils(policy.placeholders)
def an_address_that_nobody_told_of(fleet):
    fleet.config("agents")["LLM_URL"] = "https://secret.example/v1"


@pytest.mark.parametrize("rule, of, spoil", SPOILT)
def test_is_refused(rule, of, spoil, request):
    fleet = request.getfixturevalue(of)
    assert list(rule(fleet)) == []
    spoil(fleet)
    assert list(rule(fleet)) != []


def test_two_shards_that_are_added_up_are_taken(production):
    production.config("fleet")["STORYFLEET_SHARDS"] = "2"
    for scaled in production.of("ScaledObject"):
        first = scaled["spec"]["triggers"][0]
        second = first | {"metadata": first["metadata"] | {"stream": first["metadata"]["stream"].replace("{0}", "{1}")}}
        scaled["spec"]["triggers"] = [first | {"name": "shard0"}, second | {"name": "shard1"}]
        assert list(policy.the_signal_is_xlen(production)) != []
        scaled["spec"]["advanced"]["scalingModifiers"] = {"formula": "shard0 + shard1", "target": "48"}
        assert schema.faults(scaled) == []
    assert list(policy.the_signal_is_xlen(production)) == []


def test_every_rule_can_refuse():
    assert {each.values[0] for each in SPOILT} == set(policy.RULES)
