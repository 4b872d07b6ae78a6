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
