{{/* Peers and rules that several policies share. */}}
{{- define "peakclip.policyPeer" -}}
podSelector:
  matchLabels: {{- include "peakclip.selectorLabels" . | nindent 4 }}
{{- end -}}

{{- define "peakclip.policyMeta" -}}
name: {{ include "peakclip.fullname" .root }}-{{ .suffix | default .component }}
namespace: {{ .root.Release.Namespace }}
labels: {{- include "peakclip.labels" . | nindent 2 }}
{{- end -}}

{{/* Scrapes of the management port. Probes come from the node and need no rule. An empty `from` would let in everybody,
so there is no rule then. */}}
{{- define "peakclip.policyMetrics" -}}
{{- with .Values.networkPolicy.metricsFrom }}
- ports: [{protocol: TCP, port: management}]
  from: {{- toYaml . | nindent 4 }}
{{- end }}
{{- end -}}

{{- define "peakclip.policyToNats" -}}
{{- if .Values.nats.external.existingSecret }}
- ports:
    {{- range .Values.nats.external.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .Values.nats.external.to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- else }}
- ports: [{protocol: TCP, port: 4222}]
  to:
    - {{- include "peakclip.policyPeer" (dict "root" . "component" "nats") | nindent 6 }}
{{- end }}
{{- end -}}

{{- define "peakclip.policyToPostgresql" -}}
{{- if .Values.postgresql.external.existingSecret }}
- ports:
    {{- range .Values.postgresql.external.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .Values.postgresql.external.to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- else }}
- ports: [{protocol: TCP, port: 5432}]
  to:
    - {{- include "peakclip.policyPeer" (dict "root" . "component" "postgresql") | nindent 6 }}
{{- end }}
{{- end -}}

{{/* The API server is outside the pod network, by addresses that only the cluster knows. Without a block of addresses
there is no `to` at all: to Cilium, 0.0.0.0/0 is what is outside the cluster, and a node with the API server is not. */}}
{{- define "peakclip.policyToApiServer" -}}
- ports:
    {{- range .Values.networkPolicy.apiServer.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .Values.networkPolicy.apiServer.cidrs }}
  to:
    {{- range . }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  {{- end }}
{{- end -}}
