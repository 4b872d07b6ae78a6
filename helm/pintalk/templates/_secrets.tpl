{{/* Options whose values are secrets. */}}
{{- define "pintalk.secretOptions" -}}
[jwt-secret, database-url, redis-url, smtp-url, aws-access-key-id, aws-secret-access-key]
{{- end }}

{{/* Name of the variable of an option. */}}
{{- define "pintalk.variable" -}}
{{- ternary "" "PINTALK_" (hasPrefix "aws-" .) }}{{ . | upper | replace "-" "_" }}
{{- end }}

{{/* Secrets that the values contain, by option, as JSON. The chart stores them in its own Secret. */}}
{{- define "pintalk.ownSecrets" -}}
{{- $own := dict }}
{{- $s := .Values.secrets }}
{{- range $option, $value := dict
    "jwt-secret" $s.jwtSecret
    "database-url" (include "pintalk.databaseUrl" .)
    "redis-url" (include "pintalk.redisUrl" .)
    "smtp-url" $s.smtpUrl
    "aws-access-key-id" $s.awsAccessKeyId
    "aws-secret-access-key" $s.awsSecretAccessKey
}}
{{- if $value }}{{ $_ := set $own $option $value }}{{ end }}
{{- end }}
{{- toJson $own }}
{{- end }}

{{/* Whether `extraEnv` sets the variable of an option, or the variable that names its file. */}}
{{- define "pintalk.isExtraEnv" -}}
{{- $variable := include "pintalk.variable" .option }}
{{- range .root.Values.extraEnv }}
{{- if has .name (list $variable (printf "%s_FILE" $variable)) }}yes{{ end }}
{{- end }}
{{- end }}

{{/* Key of a Secret that contains an option, as JSON. Empty if the option has none. `ownName` is the name of the chart's Secret
if it differs. */}}
{{- define "pintalk.secretRef" -}}
{{- $s := .root.Values.secrets }}
{{- $mapped := get $s.existingSecrets .option }}
{{- if $mapped }}
{{- dict "name" $mapped.name "key" $mapped.key | toJson }}
{{- else if hasKey (include "pintalk.ownSecrets" .root | fromJson) .option }}
{{- dict "name" (default (include "pintalk.fullname" .root) .ownName) "key" .option | toJson }}
{{- else if and $s.existingSecret (not (include "pintalk.isExtraEnv" .)) }}
{{- $ref := dict "name" $s.existingSecret "key" .option }}
{{- if not (has .option (list "jwt-secret" "database-url" "redis-url")) }}{{ $_ := set $ref "optional" true }}{{ end }}
{{- toJson $ref }}
{{- end }}
{{- end }}

{{- define "pintalk.secretEnv" -}}
{{- with include "pintalk.secretRef" . }}
- name: {{ include "pintalk.variable" $.option }}
  valueFrom:
    secretKeyRef: {{- fromJson . | toYaml | nindent 6 }}
{{- end }}
{{- end }}
