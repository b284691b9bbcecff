{{/* Who serves metrics: all of Peakclip's own processes. */}}
{{- define "peakclip.monitored" -}}
matchLabels: {{- include "peakclip.selectorLabels" (dict "root" .) | nindent 2 }}
matchExpressions:
  - {key: app.kubernetes.io/component, operator: In, values: [api, relay, operator, worker]}
{{- end -}}

{{/* Labels of every series that files/alerts.yaml and the dashboard group by; `namespace` and `pod` come by themselves. */}}
{{- define "peakclip.monitoringRelabelings" -}}
- {sourceLabels: [__meta_kubernetes_pod_label_app_kubernetes_io_instance], targetLabel: release}
- {sourceLabels: [__meta_kubernetes_pod_label_app_kubernetes_io_component], targetLabel: component}
{{- end -}}

{{/* What PodMonitor and ServiceMonitor say alike of a place to scrape: (dict "values" .Values.monitoring.podMonitor). */}}
{{- define "peakclip.monitoringEndpoint" -}}
- port: management
  path: /metrics
  {{- with .values.interval }}
  interval: {{ . }}
  {{- end }}
  {{- with .values.scrapeTimeout }}
  scrapeTimeout: {{ . }}
  {{- end }}
  relabelings:
    {{- include "peakclip.monitoringRelabelings" . | nindent 4 }}
    {{- with .values.relabelings }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .values.metricRelabelings }}
  metricRelabelings: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* For a Prometheus that finds pods by annotations. Among the annotations of every pod that serves metrics. */}}
{{- define "peakclip.scrapeAnnotations" -}}
{{- if .Values.monitoring.annotations.enabled -}}
prometheus.io/scrape: "true"
prometheus.io/port: "9090"
prometheus.io/path: /metrics
{{- end -}}
{{- end -}}

{{- define "peakclip.monitoringMeta" -}}
name: {{ include "peakclip.fullname" .root }}{{ .suffix }}
namespace: {{ .values.namespace | default .root.Release.Namespace }}
labels:
  {{- include "peakclip.labels" (dict "root" .root) | nindent 2 }}
  {{- with .values.additionalLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
