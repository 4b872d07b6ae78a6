{{/* Validates what the schema cannot express, and values for which an error of the schema would contain a password. */}}
{{- define "pintalk.validate" -}}
{{- /* This check is the first one, because the other checks read `config`. */}}
{{- if not (kindIs "map" .Values.config) }}{{ fail "config holds options; use {} instead of null" }}{{ end }}
{{- include "pintalk.validateSecrets" . }}
{{- include "pintalk.validateAddresses" . }}
{{- include "pintalk.validateKeys" . }}
{{- if and .Values.media.bucketUrl .Values.media.existingClaim }}{{ fail "media.bucketUrl and media.existingClaim: set only one" }}{{ end }}
{{- if and .Values.httpRoute.enabled (empty .Values.httpRoute.parentRefs) }}{{ fail "httpRoute.parentRefs must name a Gateway" }}{{ end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}{{ fail "autoscaling.minReplicas is above maxReplicas" }}{{ end }}
{{- range $key := list "maxUnavailable" "minAvailable" }}
{{- $value := toString (get $.Values.podDisruptionBudget $key) }}
{{- if not (or (regexMatch "^([0-9]+|[0-9]+%)$" $value) (and (eq $key "minAvailable") (eq $value ""))) }}
{{- fail (printf "podDisruptionBudget.%s is a number of pods, 0 or more, or a percentage such as 25%%" $key) }}
{{- end }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}{{ fail "metrics.serviceMonitor and metrics.podMonitor would scrape every node twice: enable only one" }}{{ end }}
{{- end }}

{{- define "pintalk.validateSecrets" -}}
{{- $s := .Values.secrets }}
{{- range $option, $value := include "pintalk.secretValues" . | fromJson }}
{{- if and $s.existingSecret (get $s $value) }}{{ fail (printf "secrets.%s is not read with secrets.existingSecret: add it to that Secret" $value) }}{{ end }}
{{- end }}
{{- if and $s.existingSecret (or .Values.redis.enabled .Values.mysql.enabled) }}
{{- fail "redis.enabled and mysql.enabled cannot be combined with secrets.existingSecret, which contains other addresses" }}
{{- end }}
{{- include "pintalk.validateSources" . }}
{{- range $store := list "database" "redis" }}
{{- $evaluation := ternary "mysql" "redis" (eq $store "database") }}
{{- $hasHost := include "pintalk.hasHost" (dict "root" $ "store" $store) }}
{{- $hasUrl := include "pintalk.isSet" (dict "root" $ "option" (printf "%s-url" $store)) }}
{{- if and $hasHost $hasUrl }}{{ fail (printf "the URL and the host of %s are both set: set only one" (get (dict "database" "the database" "redis" "Redis") $store)) }}{{ end }}
{{- if and (get $.Values $evaluation).enabled (include "pintalk.isSet" (dict "root" $ "option" (printf "%s-host" $store))) }}
{{- fail (printf "%s.enabled and %s-host: set only one" $evaluation $store) }}
{{- end }}
{{- end }}
{{- if and (include "pintalk.isSet" (dict "root" . "option" "database-host")) (not .Values.envFrom) }}
{{- range $option := list "database-user" "database-name" }}
{{- if not (include "pintalk.isSet" (dict "root" $ "option" $option)) }}{{ fail (printf "config.%s is required with database-host" $option) }}{{ end }}
{{- end }}
{{- end }}
{{- range $required := list
    (list "jwt-secret" "secrets.jwtSecret must have 32 bytes or more and stay the same at upgrades: generate it with `openssl rand -base64 48`, or set secrets.existingSecret")
    (list "database-url" "secrets.databaseUrl must name a MySQL; or set config.database-host, secrets.existingSecret, or mysql.enabled for evaluation")
    (list "redis-url" "secrets.redisUrl must name a Redis; or set config.redis-host, secrets.existingSecret, or redis.enabled for evaluation")
}}
{{- $option := first $required }}
{{- $hasHost := and (hasSuffix "-url" $option) (include "pintalk.hasHost" (dict "root" $ "store" (trimSuffix "-url" $option))) }}
{{- if not (or $hasHost $.Values.envFrom $s.existingSecret (include "pintalk.isSet" (dict "root" $ "option" $option))) }}{{ fail (last $required) }}{{ end }}
{{- end }}
{{- if and $s.jwtSecret (lt (len $s.jwtSecret) 32) }}{{ fail "secrets.jwtSecret must have 32 bytes or more: generate it with `openssl rand -base64 48`" }}{{ end }}
{{- /* The messages must not contain the values, because these contain passwords. */}}
{{- if not (regexMatch "^(mysql://.+)?$" $s.databaseUrl) }}{{ fail "secrets.databaseUrl must begin with mysql://" }}{{ end }}
{{- if not (regexMatch "^(rediss?(-(sentinel|cluster))?://.+)?$" $s.redisUrl) }}
{{- fail "secrets.redisUrl must begin with redis://, redis-sentinel:// or redis-cluster://, or with rediss… over TLS" }}
{{- end }}
{{- if not (regexMatch "^(smtps?://.+)?$" $s.smtpUrl) }}{{ fail "secrets.smtpUrl must begin with smtp:// or smtps://" }}{{ end }}
{{- range $store := list "mysql" "redis" }}
{{- with get $.Values $store }}
{{- if and .enabled (not .password) }}{{ fail (printf "%s.enabled needs %s.password" $store $store) }}{{ end }}
{{- if hasPrefix "--" .password }}{{ fail (printf "%s.password must not begin with --, which begins an option of the server" $store) }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Rejects options that several values set. */}}
{{- define "pintalk.validateSources" -}}
{{- $s := .Values.secrets }}
{{- $own := include "pintalk.ownSecrets" . | fromJson }}
{{- $names := include "pintalk.secretValues" . | fromJson }}
{{- range $option := include "pintalk.secretOptions" . | fromYamlArray }}
{{- $sources := list }}
{{- if get $.Values.config $option }}{{ $sources = append $sources (printf "config.%s" $option) }}{{ end }}
{{- if get $s.existingSecrets $option }}{{ $sources = append $sources (printf "secrets.existingSecrets.%s" $option) }}{{ end }}
{{- if get $s.files $option }}{{ $sources = append $sources (printf "secrets.files.%s" $option) }}{{ end }}
{{- if get $s (get $names $option | default $option) }}{{ $sources = append $sources (printf "secrets.%s" (get $names $option)) }}{{ end }}
{{- if and $.Values.mysql.enabled (has $option (list "database-host" "database-port" "database-user" "database-password" "database-name")) }}{{ $sources = append $sources "mysql.enabled" }}{{ end }}
{{- if and $.Values.redis.enabled (has $option (list "redis-host" "redis-password")) }}{{ $sources = append $sources "redis.enabled" }}{{ end }}
{{- if gt (len $sources) 1 }}{{ fail (printf "%s: set only one" (join " and " $sources)) }}{{ end }}
{{- end }}
{{- end }}

{{- define "pintalk.validateAddresses" -}}
{{- if and (contains ":" .Values.listenAddress) (not (regexMatch "^\\[[^\\]]+\\]$" .Values.listenAddress)) }}
{{- fail (printf "listenAddress %q: write an IPv6 address in brackets, as in \"[::]\", and no port" .Values.listenAddress) }}
{{- end }}
{{- range $where, $hosts := dict "ingress.hosts" .Values.ingress.hosts "httpRoute.hostnames" .Values.httpRoute.hostnames }}
{{- range $hosts }}
{{- if regexMatch "[/:]" . }}{{ fail (printf "%s: %q is not a host name: remove scheme, port and path" $where .) }}{{ end }}
{{- end }}
{{- end }}
{{- range $option := list "public-url" "otlp-endpoint" }}
{{- with get $.Values.config $option }}
{{- if not (regexMatch "^https?://[^/]" (toString .)) }}{{ fail (printf "config.%s must begin with https:// or http://" $option) }}{{ end }}
{{- end }}
{{- end }}
{{- with get .Values.config "public-url" }}
{{- if not (regexMatch "^[^:]+://[^/]+(/[A-Za-z0-9._~-]+)*/*$" (toString .)) }}
{{- fail (printf "config.public-url %q: each segment of its path has only letters, digits and -._~" (toString .)) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Rejects keys that the chart sets itself. The same key would otherwise occur twice in an object. */}}
{{- define "pintalk.validateKeys" -}}
{{- $own := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" }}
{{- $labels := dict "commonLabels" .Values.commonLabels "podLabels" .Values.podLabels }}
{{- range $part := list "service" "ingress" "httpRoute" }}
{{- $_ := set $labels (printf "%s.labels" $part) (get $.Values $part).labels }}
{{- end }}
{{- range $part, $settings := .Values.metrics }}
{{- $_ := set $labels (printf "metrics.%s.labels" $part) $settings.labels }}
{{- end }}
{{- range $where, $all := $labels }}
{{- range $key, $_ := $all }}
{{- if has $key $own }}{{ fail (printf "%s: %s is set by the chart, whose selectors use it" $where $key) }}{{ end }}
{{- if and (hasSuffix ".labels" $where) (hasKey $.Values.commonLabels $key) }}{{ fail (printf "%s and commonLabels both set %s: set it once" $where $key) }}{{ end }}
{{- end }}
{{- end }}
{{- $annotations := list "kubectl.kubernetes.io/default-container" }}
{{- /* Without a Secret of the chart, operators may set the checksum themselves, which restarts the pods. */}}
{{- if include "pintalk.ownSecrets" . | fromJson }}{{ $annotations = append $annotations "checksum/secret" }}{{ end }}
{{- range $key, $_ := .Values.podAnnotations }}
{{- if has $key $annotations }}{{ fail (printf "podAnnotations: %s is set by the chart" $key) }}{{ end }}
{{- end }}
{{- $set := list }}
{{- range fromYamlArray (include "pintalk.ownEnv" .) }}{{ $set = append $set .name }}{{ end }}
{{- range .Values.extraEnv }}
{{- if has (trimSuffix "_FILE" .name) $set }}{{ fail (printf "extraEnv: %s is set by the chart from another value" (trimSuffix "_FILE" .name)) }}{{ end }}
{{- end }}
{{- end }}
