{{/* Options that may be keys of Secrets. The first ones are secrets that may also be files. The others are parts of an address, which
some operators of databases store in the Secret of the password. */}}
{{- define "pintalk.secretOptions" -}}
- jwt-secret
- database-url
- database-password
- redis-url
- redis-password
- redis-sentinel-password
- smtp-url
- smtp-password
- aws-access-key-id
- aws-secret-access-key
- database-host
- database-port
- database-user
- database-name
- redis-host
- redis-port
- redis-user
{{- end }}

{{/* Name of the variable of an option. */}}
{{- define "pintalk.variable" -}}
{{- ternary "" "PINTALK_" (hasPrefix "aws-" .) }}{{ . | upper | replace "-" "_" }}
{{- end }}

{{/* Values that contain the secrets of options, as JSON. */}}
{{- define "pintalk.secretValues" -}}
{{- dict
    "jwt-secret" "jwtSecret"
    "database-url" "databaseUrl"
    "database-password" "databasePassword"
    "redis-url" "redisUrl"
    "redis-password" "redisPassword"
    "redis-sentinel-password" "redisSentinelPassword"
    "smtp-url" "smtpUrl"
    "smtp-password" "smtpPassword"
    "aws-access-key-id" "awsAccessKeyId"
    "aws-secret-access-key" "awsSecretAccessKey"
  | toJson }}
{{- end }}

{{/* Secrets that the values contain, by option, as JSON. The chart stores them in its own Secret. */}}
{{- define "pintalk.ownSecrets" -}}
{{- $own := dict }}
{{- range $option, $value := include "pintalk.secretValues" . | fromJson }}
{{- with get $.Values.secrets $value }}{{ $_ := set $own $option . }}{{ end }}
{{- end }}
{{- range $store, $option := dict "mysql" "database-password" "redis" "redis-password" }}
{{- with get $.Values $store }}
{{- if .enabled }}{{ $_ := set $own $option .password }}{{ end }}
{{- end }}
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

{{/* Whether a value of the chart, other than secrets.existingSecret, sets an option. */}}
{{- define "pintalk.isSet" -}}
{{- $s := .root.Values.secrets }}
{{- $config := get .root.Values.config .option }}
{{- if or (get $s.files .option) (get $s.existingSecrets .option) (hasKey (include "pintalk.ownSecrets" .root | fromJson) .option) $config (include "pintalk.isExtraEnv" .) }}yes{{ end }}
{{- end }}

{{/* Whether the host of a store, `database` or `redis`, is given instead of a URL. */}}
{{- define "pintalk.hasHost" -}}
{{- $evaluation := get .root.Values (ternary "mysql" "redis" (eq .store "database")) }}
{{- if or $evaluation.enabled (include "pintalk.isSet" (dict "root" .root "option" (printf "%s-host" .store))) }}yes{{ end }}
{{- end }}

{{/* Options that nodes read from secrets.existingSecret, as a list. A missing key of an optional one is ignored. */}}
{{- define "pintalk.isInExistingSecret" -}}
{{- $s := .root.Values.secrets }}
{{- if and $s.existingSecret (not (include "pintalk.isSet" .)) }}
{{- $store := splitList "-" .option | first }}
{{- if has .option (list "database-url" "redis-url") }}
{{- if not (include "pintalk.hasHost" (dict "root" .root "store" $store)) }}required{{ end }}
{{- else if eq .option "jwt-secret" }}required
{{- else if hasKey (include "pintalk.secretValues" . | fromJson) .option }}optional
{{- end }}
{{- end }}
{{- end }}

{{/* Variable of an option that is a file or a key of a Secret. Empty if the option has neither. `ownName` is the name of the chart's
Secret if it differs. */}}
{{- define "pintalk.secretEnv" -}}
{{- $s := .root.Values.secrets }}
{{- $variable := include "pintalk.variable" .option }}
{{- $existing := include "pintalk.isInExistingSecret" . }}
{{- if get $s.files .option }}
- name: {{ $variable }}_FILE
  value: {{ get $s.files .option | quote }}
{{- else if get $s.existingSecrets .option }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef: {{- get $s.existingSecrets .option | toYaml | nindent 6 }}
{{- else if hasKey (include "pintalk.ownSecrets" .root | fromJson) .option }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ default (include "pintalk.fullname" .root) .ownName }}
      key: {{ .option }}
{{- else if $existing }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ $s.existingSecret }}
      key: {{ .option }}
      {{- if eq $existing "optional" }}
      optional: true
      {{- end }}
{{- end }}
{{- end }}
