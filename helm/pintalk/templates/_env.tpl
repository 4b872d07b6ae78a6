{{/* Environment of the nodes, and of the test that checks their stores. */}}
{{- define "pintalk.env" -}}
{{ include "pintalk.ownEnv" . }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "pintalk.ownEnv" -}}
- name: PINTALK_LISTEN
  value: {{ printf "%s:8080" .Values.listenAddress | quote }}
- name: PINTALK_METRICS_LISTEN
  value: {{ printf "%s:9090" .Values.listenAddress | quote }}
- name: PINTALK_DATA_DIR
  value: /var/lib/pintalk
- name: PINTALK_AUTO_MIGRATE
  value: "off"
- name: PINTALK_DRAIN_DELAY
  value: {{ printf "%ds" (int .Values.drain.delaySeconds) }}
- name: PINTALK_DRAIN
  value: {{ printf "%ds" (int .Values.drain.seconds) }}
{{- with include "pintalk.publicUrl" . }}
- name: PINTALK_PUBLIC_URL
  value: {{ . | quote }}
{{- end }}
{{- range $option, $value := omit .Values.config "public-url" }}
{{- if not (hasPrefix "database-" $option) }}
{{- include "pintalk.optionEnv" (dict "option" $option "value" $value) }}
{{- end }}
{{- end }}
{{- if .Values.redis.enabled }}
- name: PINTALK_REDIS_HOST
  value: {{ include "pintalk.redisName" . }}:6379
{{- end }}
{{- with .Values.rustLog }}
- name: RUST_LOG
  value: {{ . | quote }}
{{- end }}
{{- if .Values.media.bucketUrl }}
- name: PINTALK_MEDIA_URL
  value: {{ .Values.media.bucketUrl | quote }}
{{- with .Values.media.region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- with .Values.media.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- else }}
- name: PINTALK_MEDIA_URL
  value: file:///var/lib/pintalk-media
{{- end }}
{{- range $option := include "pintalk.secretOptions" . | fromYamlArray }}
{{- if not (hasPrefix "database-" $option) }}
{{- include "pintalk.secretEnv" (dict "root" $ "option" $option) }}
{{- end }}
{{- end }}
{{- include "pintalk.databaseEnv" (dict "root" .) }}
{{- end }}

{{/* Options of the connection to the database. The migration needs only these. `ownName` is the name of the chart's Secret if it
differs. */}}
{{- define "pintalk.databaseEnv" -}}
{{- range $option, $value := .root.Values.config }}
{{- if hasPrefix "database-" $option }}
{{- include "pintalk.optionEnv" (dict "option" $option "value" $value) }}
{{- end }}
{{- end }}
{{- if .root.Values.mysql.enabled }}
- name: PINTALK_DATABASE_HOST
  value: {{ include "pintalk.mysqlName" .root }}
- name: PINTALK_DATABASE_PORT
  value: "3306"
- name: PINTALK_DATABASE_USER
  value: pintalk
- name: PINTALK_DATABASE_NAME
  value: pintalk
{{- end }}
{{- range $option := include "pintalk.secretOptions" . | fromYamlArray }}
{{- if hasPrefix "database-" $option }}
{{- include "pintalk.secretEnv" (dict "root" $.root "option" $option "ownName" $.ownName) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "pintalk.optionEnv" -}}
{{- if not (kindIs "invalid" .value) }}
- name: {{ include "pintalk.variable" .option }}
  value: {{ include "pintalk.optionText" .value | quote }}
{{- end }}
{{- end }}

{{- define "pintalk.volumeMounts" -}}
- name: data
  mountPath: /var/lib/pintalk
- name: media
  mountPath: /var/lib/pintalk-media
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "pintalk.volumes" -}}
# A node of a cluster stores nothing in this directory. At start, it checks that the directory is writable.
- name: data
  emptyDir: {sizeLimit: 16Mi}
- name: media
  {{- if .Values.media.existingClaim }}
  persistentVolumeClaim: {claimName: {{ .Values.media.existingClaim }}}
  {{- else }}
  emptyDir: {sizeLimit: 1Gi}
  {{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Text of an option. YAML reads `off` as false, and Helm would format a million as 1e+06. */}}
{{- define "pintalk.optionText" -}}
{{- if kindIs "bool" . }}{{ ternary "on" "off" . }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}
{{- else }}{{ . }}
{{- end }}
{{- end }}
