{{- define "ayb.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "ayb.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "ayb.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "ayb.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ayb.selectorLabels" -}}
app.kubernetes.io/name: {{ include "ayb.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ayb.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "ayb.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "ayb.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "ayb.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "ayb.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "ayb.secretName" -}}
{{ include "ayb.fullname" . }}
{{- end -}}

{{/* The environment variable `env`, from the Secret that `source` names, or from ours. */}}
{{- define "ayb.secretEnv" -}}
- name: {{ .env }}
  valueFrom:
    secretKeyRef:
      name: {{ .source.existingSecret | default (include "ayb.secretName" .root) }}
      key: {{ if .source.existingSecret }}{{ .source.existingSecretKey }}{{ else }}{{ .key }}{{ end }}
{{- end -}}

{{- define "ayb.valkeyUrl" -}}
redis://{{ include "ayb.fullname" . }}-valkey.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}:6379
{{- end -}}

{{- define "ayb.redisUrls" -}}
{{- if .Values.redis.urls -}}
{{ join "," .Values.redis.urls }}
{{- else if .Values.valkey.enabled -}}
{{ include "ayb.valkeyUrl" . }}
{{- end -}}
{{- end -}}

{{- define "ayb.redisGatewayUrl" -}}
{{- if .Values.redis.gatewayUrl -}}
{{ .Values.redis.gatewayUrl }}
{{- else if .Values.redis.urls -}}
{{ first .Values.redis.urls }}
{{- else if .Values.valkey.enabled -}}
{{ include "ayb.valkeyUrl" . }}
{{- end -}}
{{- end -}}

{{- define "ayb.redisEnv" -}}
- name: AYB_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ .root.Values.redis.existingSecret | default (include "ayb.secretName" .root) }}
      key: {{ if .root.Values.redis.existingSecret }}{{ .existingKey }}{{ else }}{{ .key }}{{ end }}
{{- end -}}

{{/* What relay and gateway must agree on. */}}
{{- define "ayb.commonEnv" -}}
- name: AYB_LOG_LEVEL
  value: {{ .Values.log.level | quote }}
- name: AYB_LOG_FORMAT
  value: {{ .Values.log.format | quote }}
- name: AYB_REALTIME_MAX_RECORD_BYTES
  value: {{ .Values.realtime.maxRecordBytes | int64 | quote }}
{{- with .Values.realtime.channelPrefix }}
- name: AYB_REALTIME_CHANNEL_PREFIX
  value: {{ . | quote }}
{{- end }}
{{- if .Values.traces.ratio }}
- name: AYB_TRACES_RATIO
  value: {{ .Values.traces.ratio | toString | quote }}
{{- with .Values.traces.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- with .Values.traces.env }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- if or .Values.busKey.value .Values.busKey.existingSecret }}
{{ include "ayb.secretEnv" (dict "env" "AYB_REALTIME_BUS_KEY" "source" .Values.busKey "key" "bus-key" "root" .) }}
{{- end }}
{{- end -}}

{{- define "ayb.podSecurityContext" -}}
{{ toYaml .Values.podSecurityContext }}
{{- end -}}

{{- define "ayb.containerSecurityContext" -}}
{{ toYaml .Values.containerSecurityContext }}
{{- end -}}

{{/* What a pod has mounted: CAs, the password of `source`, and volumes of the operator's own. */}}
{{- define "ayb.mounts" -}}
{{- with .root.Values.database.tls.existingSecret }}
- name: postgres-ca
  mountPath: /etc/ayb/postgres
  readOnly: true
{{- end }}
{{- with .root.Values.redis.tls.existingSecret }}
- name: redis-ca
  mountPath: /etc/ayb/redis
  readOnly: true
{{- end }}
{{- if .source.passwordSecret }}
- name: password
  mountPath: /etc/ayb/password
  readOnly: true
{{- end }}
{{- with .own }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "ayb.volumes" -}}
{{- with .root.Values.database.tls.existingSecret }}
- name: postgres-ca
  secret:
    secretName: {{ . }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- with .root.Values.redis.tls.existingSecret }}
- name: redis-ca
  secret:
    secretName: {{ . }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- with .source.passwordSecret }}
- name: password
  secret:
    secretName: {{ . }}
    items: [{key: {{ $.source.passwordSecretKey | quote }}, path: password}]
{{- end }}
{{- with .own }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The password of `source`, read again at each connect: a rotated one needs no restart. */}}
{{- define "ayb.passwordEnv" -}}
{{- if .source.passwordSecret }}
- name: {{ .env }}
  value: /etc/ayb/password/password
{{- end }}
{{- end -}}

{{/* a=b,c=d */}}
{{- define "ayb.pairs" -}}
{{- $pairs := list -}}
{{- range $name, $value := . }}{{ $pairs = append $pairs (printf "%s=%s" $name $value) }}{{ end -}}
{{- join "," $pairs -}}
{{- end -}}

{{/* Settings by their own names. YAML makes every number a float: 67108864 must not be 6.7e+07. */}}
{{- define "ayb.settings" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  {{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}
  value: {{ $value | int64 | quote }}
  {{- else }}
  value: {{ $value | toString | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Pods of one component prefer different nodes. */}}
{{- define "ayb.affinity" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "ayb.selectorLabels" .root | nindent 12 }}
            app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* A restart follows when a Secret or setting of ours changes. */}}
{{- define "ayb.checksum" -}}
checksum/secret: {{ include (print .Template.BasePath "/secret.yaml") . | sha256sum }}
{{- end -}}
