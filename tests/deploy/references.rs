//! Tests the references between the objects of the chart. Kubernetes accepts selectors that match nothing and ports
//! that do not exist.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::chart::{CHART, environment, rendered, sets, title};

/// Objects that the chart renders for one values file.
struct Release {
    set: String,
    documents: Vec<Value>,
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no word: {value}"))
}

/// Returns whether labels match a selector.
fn selects(selector: &Value, labels: &Value) -> bool {
    let asked = selector.as_object().unwrap_or_else(|| panic!("no selector: {selector}"));
    !asked.is_empty() && asked.iter().all(|(key, value)| labels[key] == *value)
}

/// Returns the labels and the specification of a workload's pods, or of the document itself if it is a pod.
fn pod(document: &Value) -> Option<(&Value, &Value)> {
    match document["kind"].as_str() {
        Some("Pod") => Some((&document["metadata"]["labels"], &document["spec"])),
        Some("Deployment" | "StatefulSet" | "Job") => {
            let template = &document["spec"]["template"];
            Some((&template["metadata"]["labels"], &template["spec"]))
        }
        _ => None,
    }
}

fn ports(pod: &Value) -> impl Iterator<Item = &Value> {
    list(&pod["containers"]).flat_map(|container| list(&container["ports"]))
}

/// Returns whether a pod has a port with this name or number.
fn has_port(pod: &Value, port: &Value) -> bool {
    ports(pod).any(|named| named["name"] == *port || named["containerPort"] == *port)
}

/// Returns a number that determines when a document is created: the weight of a hook, or a higher number for other
/// documents.
fn turn(document: &Value) -> i64 {
    let annotations = &document["metadata"]["annotations"];
    match annotations["helm.sh/hook"].as_str() {
        Some(hook) if hook.contains("install") => word(&annotations["helm.sh/hook-weight"]).parse().expect("a weight"),
        _ => i64::MAX,
    }
}

impl Release {
    fn of(set: &str) -> Self {
        Self { set: set.to_owned(), documents: rendered("helm4", CHART, set) }
    }

    fn all(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.documents.iter().filter(move |document| document["kind"] == kind)
    }

    fn named(&self, kind: &str, name: &Value) -> Option<&Value> {
        self.all(kind).find(|document| document["metadata"]["name"] == *name)
    }

    fn pods(&self) -> impl Iterator<Item = (&Value, &Value, &Value)> {
        self.documents.iter().filter_map(|document| pod(document).map(|(labels, spec)| (document, labels, spec)))
    }

    /// Returns the pods that a selector matches. Fails if it matches none.
    fn selected(&self, by: &Value, selector: &Value) -> Vec<&Value> {
        let found: Vec<_> =
            self.pods().filter(|(_, labels, _)| selects(selector, labels)).map(|(.., spec)| spec).collect();
        assert!(!found.is_empty(), "{}: {:?} selects nothing: {selector}", self.set, title(by));
        found
    }

    fn service_leads(&self, service: &Value) {
        for spec in self.selected(service, &service["spec"]["selector"]) {
            for port in list(&service["spec"]["ports"]) {
                assert!(has_port(spec, &port["targetPort"]), "{}: {:?}: {port}", self.set, title(service));
            }
        }
    }

    /// Fails unless there is a Service with this name that has this port, by name or number.
    fn has_service(&self, by: &Value, name: &Value, port: &Value) {
        let service = self.named("Service", name).unwrap_or_else(|| panic!("{}: {:?}: no {name}", self.set, title(by)));
        let has = list(&service["spec"]["ports"]).any(|known| known["name"] == *port || known["port"] == *port);
        assert!(has, "{}: {:?}: {name} has no port {port}", self.set, title(by));
    }

    fn pod_is_whole(&self, document: &Value, spec: &Value) {
        let at = format!("{}: {:?}", self.set, title(document));
        let mut volumes: BTreeSet<&str> = list(&spec["volumes"]).map(|volume| word(&volume["name"])).collect();
        volumes.extend(list(&document["spec"]["volumeClaimTemplates"]).map(|claim| word(&claim["metadata"]["name"])));
        let mut mounted = BTreeSet::new();
        for container in list(&spec["containers"]).chain(list(&spec["initContainers"])) {
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                for port in [&container[probe]["httpGet"]["port"], &container[probe]["tcpSocket"]["port"]] {
                    assert!(port.is_null() || has_port(spec, port), "{at}: {probe} {port}");
                }
            }
            mounted.extend(list(&container["volumeMounts"]).map(|mount| word(&mount["name"])));
            for reference in list(&container["env"]).map(|variable| &variable["valueFrom"]["secretKeyRef"]) {
                self.secret_is_there(&at, document, reference);
            }
            let security = &container["securityContext"];
            assert_eq!(security["readOnlyRootFilesystem"], true, "{at}");
            assert_eq!(security["capabilities"]["drop"][0], "ALL", "{at}");
        }
        assert_eq!(mounted, volumes, "{at}: what is mounted, and what there is");
        assert!(spec["securityContext"]["runAsUser"].as_u64() > Some(0), "{at}: runs as root");
        self.account_is_there(&at, document, &spec["serviceAccountName"]);
    }

    fn secret_is_there(&self, at: &str, document: &Value, reference: &Value) {
        if reference.is_null() || reference["optional"] == true || reference["name"] == "mine" {
            return;
        }
        let secret = self.named("Secret", &reference["name"]);
        let secret = secret.unwrap_or_else(|| panic!("{at}: no Secret {}", reference["name"]));
        assert!(secret["stringData"][word(&reference["key"])].is_string(), "{at}: {reference}");
        assert!(turn(document) == i64::MAX || turn(secret) < turn(document), "{at}: its Secret comes too late");
    }

    fn account_is_there(&self, at: &str, document: &Value, name: &Value) {
        if name == "mine" {
            return;
        }
        let account = self.named("ServiceAccount", name).unwrap_or_else(|| panic!("{at}: no account {name}"));
        assert!(turn(document) == i64::MAX || turn(account) < turn(document), "{at}: its account comes too late");
    }
}

#[test]
fn every_referenced_object_exists() {
    for set in sets() {
        let release = Release::of(&set);
        for service in release.all("Service") {
            release.service_leads(service);
        }
        for ingress in release.all("Ingress") {
            for path in list(&ingress["spec"]["rules"]).flat_map(|rule| list(&rule["http"]["paths"])) {
                let service = &path["backend"]["service"];
                release.has_service(ingress, &service["name"], &service["port"]["name"]);
            }
        }
        for route in release.all("HTTPRoute") {
            for backend in list(&route["spec"]["rules"]).flat_map(|rule| list(&rule["backendRefs"])) {
                release.has_service(route, &backend["name"], &backend["port"]);
            }
        }
        for set in release.all("StatefulSet") {
            assert!(release.named("Service", &set["spec"]["serviceName"]).is_some(), "{:?}", title(set));
        }
        for workload in release.all("Deployment").chain(release.all("StatefulSet")) {
            let labels = &workload["spec"]["template"]["metadata"]["labels"];
            assert!(selects(&workload["spec"]["selector"]["matchLabels"], labels), "{:?}", title(workload));
            for spread in list(&workload["spec"]["template"]["spec"]["topologySpreadConstraints"]) {
                assert!(selects(&spread["labelSelector"]["matchLabels"], labels), "{:?}", title(workload));
            }
        }
        for (document, _, spec) in release.pods() {
            release.pod_is_whole(document, spec);
        }
        for budget in release.all("PodDisruptionBudget") {
            assert_eq!(release.selected(budget, &budget["spec"]["selector"]["matchLabels"]).len(), 1);
        }
        for scaler in release.all("HorizontalPodAutoscaler") {
            let target = &scaler["spec"]["scaleTargetRef"];
            let nodes = release.named("Deployment", &target["name"]).expect("what is scaled");
            assert!(
                nodes["spec"]["replicas"].is_null(),
                "the autoscaler must be the only source of the number of nodes"
            );
        }
    }
}

#[test]
fn every_pod_has_a_network_policy_that_names_its_ports() {
    for set in sets().iter().filter(|set| !set.contains("own-secret")) {
        let release = Release::of(set);
        for (document, labels, _) in release.pods() {
            let guards = |policy: &&Value| selects(&policy["spec"]["podSelector"]["matchLabels"], labels);
            let policies: Vec<_> = release.all("NetworkPolicy").filter(guards).collect();
            let [policy] = policies[..] else { panic!("{set}: {:?} has {}", title(document), policies.len()) };
            assert!(turn(document) == i64::MAX || turn(policy) < turn(document), "{set}: {:?}", title(document));
        }
        for policy in release.all("NetworkPolicy") {
            let guarded = release.selected(policy, &policy["spec"]["podSelector"]["matchLabels"]);
            for rule in list(&policy["spec"]["ingress"]) {
                for port in list(&rule["ports"]) {
                    assert!(
                        guarded.iter().all(|pod| has_port(pod, &port["port"])),
                        "{set}: {:?}: {port}",
                        title(policy)
                    );
                }
                assert!(list(&rule["from"]).next().is_some(), "{set}: {:?} admits all peers", title(policy));
            }
            let inner = ["ingress", "egress"].map(|way| list(&policy["spec"][way]));
            let peers = inner.into_iter().flatten().flat_map(|rule| list(&rule["from"]).chain(list(&rule["to"])));
            for peer in peers.filter(|peer| !peer["podSelector"].is_null()) {
                // The policy of a store lists all pods that may connect, and some of them do not exist with this values
                // file. At least one pod must match.
                let selector = &peer["podSelector"]["matchLabels"];
                assert!(release.pods().any(|(_, labels, _)| selects(selector, labels)), "{set}: {selector}");
            }
        }
    }
}

#[test]
fn prometheus_finds_every_node_and_nothing_else() {
    for set in sets().iter().filter(|set| set.contains("everything")) {
        let release = Release::of(set);
        let monitor = release.all("ServiceMonitor").next().expect("a monitor");
        let selector = &monitor["spec"]["selector"]["matchLabels"];
        let services: Vec<_> =
            release.all("Service").filter(|service| selects(selector, &service["metadata"]["labels"])).collect();
        let [service] = services[..] else { panic!("{set}: {} services", services.len()) };
        for endpoint in list(&monitor["spec"]["endpoints"]) {
            release.has_service(monitor, &service["metadata"]["name"], &endpoint["port"]);
        }
        let environment = environment(&release.documents);
        let port = |name: &str| environment[name].rsplit_once(':').expect("a port").1.parse::<u64>().expect("a port");
        let [pod] = release.selected(service, &service["spec"]["selector"])[..] else { panic!("{set}: two kinds") };
        let named =
            |name: &str| ports(pod).find(|port| port["name"] == name).expect("a port")["containerPort"].as_u64();
        assert_eq!(
            (named("http"), named("metrics")),
            (Some(port("PINTALK_LISTEN")), Some(port("PINTALK_METRICS_LISTEN")))
        );
        // External clients must not be able to connect to the metrics port.
        let open =
            release.all("Service").find(|service| service["metadata"]["name"] == "release-chat").expect("a service");
        assert!(list(&open["spec"]["ports"]).all(|port| port["targetPort"] == "http"));
    }
}

#[test]
fn chart_test_covers_the_installed_objects() {
    for set in sets() {
        let release = Release::of(&set);
        let test =
            release.all("Pod").find(|pod| pod["metadata"]["annotations"]["helm.sh/hook"] == "test").expect("a test");
        let url = list(&test["spec"]["containers"])
            .flat_map(|container| list(&container["command"]))
            .find_map(|word| word.as_str()?.strip_prefix("http://")?.split_once('/'));
        let (authority, path) = url.expect("an address");
        let (name, port) = authority.split_once(':').expect("a port");
        release.has_service(test, &Value::from(name), &Value::from(port.parse::<u64>().expect("a number")));
        assert_eq!(path, "health/ready");
        let nodes = release.all("Deployment").next().expect("nodes");
        let of = |document: &Value| pod(document).expect("a pod").1["containers"][0].clone();
        assert_eq!((&of(test)["image"], &of(test)["env"]), (&of(nodes)["image"], &of(nodes)["env"]), "{set}");
    }
}
