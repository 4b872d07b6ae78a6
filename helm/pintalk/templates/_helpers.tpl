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

{{/* Labels that selectors use. They must not change between releases. `component` is the part of the chart, such as `node`. */}}
{{- define "pintalk.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pintalk.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of every object. Every template includes them first, so the values are validated here. */}}
{{- define "pintalk.labels" -}}
{{- $_ := include "pintalk.validate" .root }}
{{- include "pintalk.selectorLabels" . }}
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

{{/* Security context of a store's pod. The image of the store needs the given user. */}}
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

{{/* Settings of the pods of nodes, migration and test. */}}
{{- define "pintalk.podSettings" -}}
automountServiceAccountToken: false
# For a Service named pintalk, Kubernetes would add variables with the prefix PINTALK_.
enableServiceLinks: false
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- range $key := list "imagePullSecrets" "runtimeClassName" "dnsPolicy" "dnsConfig" "hostAliases" "nodeSelector" "tolerations" }}
{{- with get $.Values $key }}
{{ dict $key . | toYaml }}
{{- end }}
{{- end }}
{{- end }}

{{- define "pintalk.mysqlName" -}}{{ include "pintalk.fullname" . }}-mysql{{- end }}
{{- define "pintalk.redisName" -}}{{ include "pintalk.fullname" . }}-redis{{- end }}

{{- define "pintalk.publicUrl" -}}
{{- $url := get .Values.config "public-url" }}
{{- if $url -}}
{{ $url }}
{{- else if .Values.httpRoute.enabled -}}
{{ ternary "https" "http" .Values.httpRoute.https }}://{{ first .Values.httpRoute.hostnames }}
{{- else if .Values.ingress.enabled -}}
{{ ternary "https" "http" (not (empty .Values.ingress.tls)) }}://{{ first .Values.ingress.hosts }}
{{- end }}
{{- end }}

{{/* Path of the public URL, or "/" if it has none. Ingress and HTTPRoute publish the nodes at this path. Nodes accept requests with
and without it. */}}
{{- define "pintalk.publicPath" -}}
{{ printf "/%s" ((urlParse (include "pintalk.publicUrl" .)).path | trimAll "/") }}
{{- end }}
