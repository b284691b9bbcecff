{{/* Names. The full name is the release's when that contains the chart's, else <release>-<chart>. */}}
{{- define "peakclip.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters: the longest name made of it, of a pod of a pool, must stay below 63. */}}
{{- define "peakclip.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "peakclip.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels: (dict "root" $ "component" "api" ["pool" "orders"]). Selectors never change; the others may. */}}
{{- define "peakclip.selectorLabels" -}}
app.kubernetes.io/name: {{ include "peakclip.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .pool }}
peakclip.dev/pool: {{ . }}
{{- end }}
{{- end -}}

{{- define "peakclip.labels" -}}
{{ include "peakclip.selectorLabels" . }}
app.kubernetes.io/part-of: peakclip
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of the servers' pods: without the version, so that an upgrade of Peakclip does not restart them. */}}
{{- define "peakclip.serverPodLabels" -}}
{{ include "peakclip.selectorLabels" . }}
app.kubernetes.io/part-of: peakclip
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An image: (dict "root" $ "image" .Values.api.image). A digest wins over the tag. */}}
{{- define "peakclip.image" -}}
{{- $registry := .image.registry | default .root.Values.image.registry -}}
{{- $tag := .image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- with $registry }}{{ . }}/{{ end }}{{ .image.repository }}:{{ $tag }}{{ with .image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{/* Where the passwords are. */}}
{{- define "peakclip.natsSecret" -}}
{{- .Values.nats.external.existingSecret | default .Values.nats.existingSecret | default (printf "%s-nats" (include "peakclip.fullname" .)) -}}
{{- end -}}

{{- define "peakclip.postgresqlSecret" -}}
{{- .Values.postgresql.external.existingSecret | default .Values.postgresql.existingSecret | default (printf "%s-postgresql" (include "peakclip.fullname" .)) -}}
{{- end -}}

{{/* How many servers hold each stream. */}}
{{- define "peakclip.natsReplicas" -}}
{{- ternary .Values.nats.external.replicas .Values.nats.replicas (not (empty .Values.nats.external.existingSecret)) -}}
{{- end -}}

{{/* Roles on NATS: users of the account APP, and keys of the Secret. */}}
{{- define "peakclip.natsRoles" -}}
api worker relay operator setup admin
{{- end -}}

{{/* Pod Security "restricted": (dict "uid" 10001 "fsGroup" 999). */}}
{{- define "peakclip.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .uid }}
runAsGroup: {{ .uid }}
{{- with .fsGroup }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "peakclip.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where pods run: (dict "values" .Values.api "labels" <labels to spread by> "soft" bool). */}}
{{- define "peakclip.scheduling" -}}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .values.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
{{- else if .labels }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- .labels | nindent 8 }}
{{- end }}
{{- end -}}

{{/* A number as people write it: 400000000, not 4e+08. */}}
{{- define "peakclip.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{/* A pool with what it does not say taken from `worker`, as YAML: (dict "root" $ "pool" <entry>). */}}
{{- define "peakclip.pool" -}}
{{- mustMergeOverwrite (deepCopy .root.Values.worker) (deepCopy .pool) | toYaml -}}
{{- end -}}

{{- define "peakclip.operatorAccount" -}}
{{- if not (or .Values.operator.serviceAccount.create .Values.operator.serviceAccount.name) -}}
{{- fail "operator.serviceAccount.name is needed when operator.serviceAccount.create is false." -}}
{{- end -}}
{{- .Values.operator.serviceAccount.name | default (printf "%s-operator" (include "peakclip.fullname" .)) -}}
{{- end -}}

{{/* What a test pod needs comes before it, and goes after it has succeeded. */}}
{{- define "peakclip.testObject" -}}
helm.sh/hook: test
helm.sh/hook-weight: "-1"
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
