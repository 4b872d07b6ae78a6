{{/* Names. */}}
{{- define "pintalk.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "pintalk.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "pintalk.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "pintalk.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "pintalk.serviceAccountName" -}}
{{- default (ternary (include "pintalk.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "pintalk.secretName" -}}
{{- default (include "pintalk.fullname" .) .Values.secrets.existingSecret }}
{{- end }}

{{/* Labels that never change: what selectors know. With "component", those of one part. */}}
{{- define "pintalk.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pintalk.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "pintalk.labels" -}}
{{ include "pintalk.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "pintalk.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{/* What every pod of the chart may do: nothing that a program which listens and calls does not need. */}}
{{- define "pintalk.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "pintalk.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "pintalk.mysqlName" -}}{{ include "pintalk.fullname" . }}-mysql{{- end }}
{{- define "pintalk.redisName" -}}{{ include "pintalk.fullname" . }}-redis{{- end }}

{{/* Stores: named, or those that come along for trying out. */}}
{{- define "pintalk.databaseUrl" -}}
{{- if .Values.mysql.enabled -}}
mysql://pintalk:{{ .Values.mysql.password }}@{{ include "pintalk.mysqlName" . }}:3306/pintalk
{{- else -}}
{{ .Values.secrets.databaseUrl }}
{{- end }}
{{- end }}

{{- define "pintalk.redisUrl" -}}
{{- if .Values.redis.enabled -}}
redis://:{{ .Values.redis.password }}@{{ include "pintalk.redisName" . }}:6379
{{- else -}}
{{ .Values.secrets.redisUrl }}
{{- end }}
{{- end }}

{{- define "pintalk.publicUrl" -}}
{{- $url := get .Values.config "public-url" }}
{{- if $url -}}
{{ $url }}
{{- else if .Values.ingress.enabled -}}
{{ ternary "https" "http" (not (empty .Values.ingress.tls)) }}://{{ first .Values.ingress.hosts }}
{{- else if .Values.httpRoute.enabled -}}
{{ ternary "https" "http" .Values.httpRoute.https }}://{{ first .Values.httpRoute.hostnames }}
{{- end }}
{{- end }}

{{/* What no schema can say: refused with a sentence. */}}
{{- define "pintalk.validate" -}}
{{- $s := .Values.secrets }}
{{- if $s.existingSecret }}
{{- range $key := list "jwtSecret" "databaseUrl" "redisUrl" "smtpUrl" "awsAccessKeyId" "awsSecretAccessKey" }}
{{- if get $s $key }}{{ fail (printf "secrets.%s is not read with secrets.existingSecret: put it there" $key) }}{{ end }}
{{- end }}
{{- if or .Values.redis.enabled .Values.mysql.enabled }}
{{- fail "redis.enabled and mysql.enabled do not go with secrets.existingSecret: their addresses would not be in it" }}
{{- end }}
{{- else }}
{{- if lt (len $s.jwtSecret) 32 }}
{{- fail "secrets.jwtSecret must have 32 bytes or more, the same at every upgrade: `openssl rand -base64 48` makes one (or name secrets.existingSecret)" }}
{{- end }}
{{- if not (include "pintalk.databaseUrl" .) }}{{ fail "secrets.databaseUrl must name a MySQL (or secrets.existingSecret, or mysql.enabled for trying out)" }}{{ end }}
{{- if not (include "pintalk.redisUrl" .) }}{{ fail "secrets.redisUrl must name a Redis (or secrets.existingSecret, or redis.enabled for trying out)" }}{{ end }}
{{- if and .Values.mysql.enabled $s.databaseUrl }}{{ fail "mysql.enabled and secrets.databaseUrl: which?" }}{{ end }}
{{- if and .Values.redis.enabled $s.redisUrl }}{{ fail "redis.enabled and secrets.redisUrl: which?" }}{{ end }}
{{- end }}
{{- if and .Values.mysql.enabled (not .Values.mysql.password) }}{{ fail "mysql.enabled needs mysql.password" }}{{ end }}
{{- if and .Values.redis.enabled (not .Values.redis.password) }}{{ fail "redis.enabled needs redis.password" }}{{ end }}
{{- if and .Values.media.bucketUrl .Values.media.existingClaim }}{{ fail "media.bucketUrl and media.existingClaim: which?" }}{{ end }}
{{- if and .Values.httpRoute.enabled (empty .Values.httpRoute.parentRefs) }}{{ fail "httpRoute.parentRefs must name a Gateway" }}{{ end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}{{ fail "autoscaling.minReplicas is above maxReplicas" }}{{ end }}
{{- end }}
