//! Tests how the chart exposes the nodes: HTTPRoute, Ingress with each controller, Service and network policies.

use serde_json::{Value, json};

use crate::chart::{HELMS, given, rendered, sets};

const SECRET: &str = "secrets.existingSecret=mine";

/// Returns the only document of a kind with a name.
fn named<'a>(documents: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |document: &&Value| document["kind"] == kind && document["metadata"]["name"] == name;
    documents.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn ingress_has_only_annotations_of_the_named_controller() {
    for (controller, annotations) in [
        ("", json!(null)),
        ("traefik", json!(null)),
        (
            "nginx",
            json!({
                "nginx.ingress.kubernetes.io/proxy-read-timeout": "120",
                "nginx.ingress.kubernetes.io/proxy-send-timeout": "120",
                "nginx.ingress.kubernetes.io/proxy-connect-timeout": "2",
                "nginx.ingress.kubernetes.io/proxy-buffering": "off",
                "nginx.ingress.kubernetes.io/proxy-body-size": "6m",
                "nginx.ingress.kubernetes.io/proxy-next-upstream": "error timeout http_503",
                "nginx.ingress.kubernetes.io/load-balance": "ewma",
                "nginx.ingress.kubernetes.io/enable-access-log": "false",
            }),
        ),
        (
            "nginx-inc",
            json!({
                "nginx.org/websocket-services": "release-pintalk",
                "nginx.org/proxy-read-timeout": "120s",
                "nginx.org/proxy-send-timeout": "120s",
                "nginx.org/proxy-connect-timeout": "2s",
                "nginx.org/proxy-buffering": "false",
                "nginx.org/client-max-body-size": "6m",
                "nginx.org/proxy-next-upstream": "error timeout http_503",
                "nginx.org/lb-method": "least_conn",
                "nginx.org/max-fails": "0",
            }),
        ),
        (
            "haproxy",
            json!({
                "haproxy.org/timeout-server": "120s",
                "haproxy.org/load-balance": "leastconn",
                "haproxy-ingress.github.io/timeout-server": "120s",
                "haproxy-ingress.github.io/balance-algorithm": "leastconn",
            }),
        ),
    ] {
        for program in HELMS {
            let controller = format!("ingress.controller={controller}");
            let documents = given(program, &[SECRET, "ingress.enabled=true", &controller]);
            let ingress = named(&documents, "Ingress", "release-pintalk");
            assert_eq!(ingress["metadata"]["annotations"], annotations, "{program}: {controller}");
            assert_eq!(ingress["spec"]["ingressClassName"], Value::Null, "{program}: {controller}");
            let service = &named(&documents, "Service", "release-pintalk")["metadata"]["annotations"];
            let scheme = &service["traefik.ingress.kubernetes.io/service.serversscheme"];
            assert_eq!(*scheme == "http", controller.ends_with("traefik"), "{program}: {controller}: {service}");
        }
    }
}

#[test]
fn annotations_of_the_operator_replace_those_of_the_controller() {
    let set = sets().into_iter().find(|set| set.contains("everything")).expect("a set with everything");
    for program in HELMS {
        let documents = rendered(program, crate::chart::CHART, &set);
        let annotations = &named(&documents, "Ingress", "release-chat")["metadata"]["annotations"];
        assert_eq!(annotations["nginx.org/client-max-body-size"], "8m", "{program}");
        assert_eq!(annotations["nginx.org/websocket-services"], "release-chat", "{program}");
        assert_eq!(annotations["note"], "text", "{program}");
    }
}

#[test]
fn service_has_no_application_protocol_by_default() {
    for program in HELMS {
        let documents = given(program, &[SECRET, "service.type=LoadBalancer"]);
        let port = &named(&documents, "Service", "release-pintalk")["spec"]["ports"][0];
        assert_eq!(*port, json!({"name": "http", "port": 80, "targetPort": "http"}), "{program}");
        // A ClusterIP has no node port, and the addresses of its clients need no policy.
        let values = [SECRET, "service.nodePort=30080", "service.externalTrafficPolicy=Local"];
        let cluster = given(program, &[&values[..], &["service.loadBalancerSourceRanges={192.0.2.0/24}"]].concat());
        let spec = &named(&cluster, "Service", "release-pintalk")["spec"];
        assert!(spec["ports"][0]["nodePort"].is_null() && spec["externalTrafficPolicy"].is_null(), "{program}: {spec}");
        assert!(spec["loadBalancerSourceRanges"].is_null(), "{program}: {spec}");
        let node = given(program, &[&values[..], &["service.type=NodePort"]].concat());
        let spec = &named(&node, "Service", "release-pintalk")["spec"];
        assert_eq!((&spec["ports"][0]["nodePort"], &spec["externalTrafficPolicy"]), (&json!(30080), &json!("Local")));
    }
}

/// Returns the rule for DNS of a network policy, which is the first one.
fn dns(policy: &Value) -> &Value {
    &policy["spec"]["egress"][0]
}

#[test]
fn network_policies_permit_dns_and_additional_rules_in_every_pod() {
    let policies = ["release-pintalk", "release-pintalk-test", "release-pintalk-migrate"];
    let port = |port: u16| [json!({"port": port, "protocol": "UDP"}), json!({"port": port, "protocol": "TCP"})];
    for program in HELMS {
        // The DNS pods of OpenShift listen on 5353.
        let documents = given(program, &[SECRET]);
        for name in policies {
            let rule = dns(named(&documents, "NetworkPolicy", name));
            let ports = [port(53), port(5353)].concat();
            assert_eq!(*rule, json!({ "ports": ports }), "{program}: {name}");
        }
        let to = "networkPolicy.dns.to[0].podSelector.matchLabels.dns=default";
        let vault = "networkPolicy.additionalEgress[0].ports[0].port=8200";
        let open = "networkPolicy.additionalIngress[0].from[0].ipBlock.cidr=192.0.2.0/24";
        let documents = given(program, &[SECRET, "networkPolicy.dns.ports={5353}", to, vault, open]);
        for name in policies {
            let policy = named(&documents, "NetworkPolicy", name);
            let to = json!([{"podSelector": {"matchLabels": {"dns": "default"}}}]);
            assert_eq!(*dns(policy), json!({"ports": port(5353), "to": to}), "{program}: {name}");
            let egress = policy["spec"]["egress"].as_array().expect("rules");
            assert!(egress.contains(&json!({"ports": [{"port": 8200}]})), "{program}: {name}: {egress:?}");
        }
        let ingress = &named(&documents, "NetworkPolicy", "release-pintalk")["spec"]["ingress"];
        let ingress = ingress.as_array().expect("rules");
        assert!(ingress.contains(&json!({"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]})), "{program}: {ingress:?}");
    }
}

#[test]
fn network_policy_admits_the_namespaces_of_the_gateways_of_the_route() {
    let of = |name: &str| json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}});
    let values = ["httpRoute.parentRefs[0].name=a", "httpRoute.parentRefs[1].name=b"];
    let values =
        [&values[..], &["httpRoute.parentRefs[1].namespace=gateways", "networkPolicy.ingressFrom=null"]].concat();
    for program in HELMS {
        for (enabled, expected) in [("true", vec![of("chat"), of("gateways")]), ("false", vec![])] {
            let enabled = format!("httpRoute.enabled={enabled}");
            let documents = given(program, &[&values[..], &[SECRET, &enabled]].concat());
            let rule = &named(&documents, "NetworkPolicy", "release-pintalk")["spec"]["ingress"][0];
            // The first peer is the chart's test.
            assert_eq!(rule["from"].as_array().expect("peers")[1..], expected, "{program}: {enabled}");
        }
    }
}

#[test]
fn unsupported_timeouts_of_the_route_can_be_removed() {
    let values = [SECRET, "httpRoute.enabled=true", "httpRoute.parentRefs[0].name=gateway"];
    for program in HELMS {
        let rule = |more: &[&str]| {
            let documents = given(program, &[&values[..], more].concat());
            named(&documents, "HTTPRoute", "release-pintalk")["spec"]["rules"][0].clone()
        };
        assert_eq!(rule(&[])["timeouts"], json!({"request": "0s", "backendRequest": "0s"}), "{program}");
        let without = rule(&["httpRoute.timeouts.request=null", "httpRoute.timeouts.backendRequest=null"]);
        assert_eq!(without["timeouts"], Value::Null, "{program}");
    }
}
