{{/*
The pod of a Peakclip process, below `template:`.

(dict "root" $ "component" "api" "values" .Values.api "args" (list "api")) and, where they apply:
"pool"      name of the pool, a label
"role"      the role on NATS; absent: no connection
"database"  true for a connection to PostgreSQL
"http"      true for the port of clients
"env"       further variables of the chart's own, a list
"probes"    false for what serves no management port
"token"     true for the one process that speaks to the API server
"account"   its ServiceAccount
"restart"   the restart policy of a Job
"spread"    true to spread the replicas over the nodes
"grace"     seconds between SIGTERM and SIGKILL
*/}}
{{- define "peakclip.podTemplate" -}}
{{- $values := .values -}}
{{- $labels := dict "root" .root "component" .component "pool" .pool -}}
metadata:
  labels:
    {{- include "peakclip.labels" $labels | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: {{ .component }}
    {{- if ne .probes false }}
    {{- with include "peakclip.scrapeAnnotations" .root }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- with .account | default $values.serviceAccountName }}
  serviceAccountName: {{ . }}
  {{- end }}
  automountServiceAccountToken: {{ .token | default false }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .grace | default 30 }}
  {{- with .restart }}
  restartPolicy: {{ . }}
  {{- end }}
  securityContext:
    {{- include "peakclip.podSecurityContext" (dict "uid" 10001) | nindent 4 }}
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $spread := ternary (include "peakclip.selectorLabels" $labels) "" (.spread | default false) }}
  {{- with include "peakclip.scheduling" (dict "values" $values "labels" $spread) | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  containers:
    - {{- include "peakclip.container" . | nindent 6 }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "peakclip.container" -}}
{{- $values := .values -}}
name: {{ .component }}
image: {{ include "peakclip.image" (dict "root" .root "image" $values.image) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
{{- with $values.command }}
command: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat ($values.args | default .args | default list) ($values.extraArgs | default list) }}
args: {{- toYaml . | nindent 2 }}
{{- end }}
env:
  {{- include "peakclip.env" . | nindent 2 }}
{{- with $values.extraEnvFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if ne .probes false }}
ports:
  {{- if .http }}
  - {name: http, containerPort: 8080}
  {{- end }}
  - {name: management, containerPort: 9090}
startupProbe:
  httpGet: {path: /livez, port: management}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: management}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  {{- /* While NATS is away the API itself says 503 and when to come again; an ingress without a pod says 404. */}}
  httpGet: {path: {{ if .http }}"/readyz?exclude=nats"{{ else }}/readyz{{ end }}, port: management}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 3
{{- end }}
{{- with $values.preStopSeconds }}
lifecycle:
  preStop:
    sleep: {seconds: {{ . }}}
{{- end }}
resources: {{- toYaml $values.resources | nindent 2 }}
securityContext:
  {{- include "peakclip.containerSecurityContext" . | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- with $values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* All variables of a process. A name that is there twice is an error of the API server, so it is one here, with a name. */}}
{{- define "peakclip.env" -}}
{{- $env := list -}}
{{- if ne .probes false -}}
{{- $env = concat $env (list (dict "name" "PEAKCLIP_MANAGEMENT_HOST" "value" "0.0.0.0") (dict "name" "PEAKCLIP_MANAGEMENT_PORT" "value" "9090")) -}}
{{- end -}}
{{- if .http -}}
{{- $env = concat $env (list (dict "name" "PEAKCLIP_HOST" "value" "0.0.0.0") (dict "name" "PEAKCLIP_PORT" "value" "8080")) -}}
{{- end -}}
{{- with .role -}}
{{- $ref := dict "name" (include "peakclip.natsSecret" $.root) "key" (printf "%s-url" .) -}}
{{- $env = append $env (dict "name" "PEAKCLIP_NATS_URL" "valueFrom" (dict "secretKeyRef" $ref)) -}}
{{- end -}}
{{- if .database -}}
{{- $ref := dict "name" (include "peakclip.postgresqlSecret" $.root) "key" "url" -}}
{{- $env = append $env (dict "name" "PEAKCLIP_DATABASE_URL" "valueFrom" (dict "secretKeyRef" $ref)) -}}
{{- end -}}
{{- $env = concat $env (.env | default list) -}}
{{- range $name, $value := .values.env | default dict -}}
{{- $env = append $env (dict "name" $name "value" (include "peakclip.text" $value)) -}}
{{- end -}}
{{- $env = concat $env (.values.extraEnv | default list) -}}
{{- $seen := dict -}}
{{- range $env -}}
{{- if hasKey $seen .name -}}
{{- fail (printf "The variable %s of %s%s is set twice: the chart sets it, or both env and extraEnv do." .name $.component (ternary (printf " %s" $.pool) "" (not (empty $.pool)))) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{- toYaml $env -}}
{{- end -}}
