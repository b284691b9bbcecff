{{/* What is allowed, and should be known. One line each. */}}
{{- define "peakclip.warnings" -}}
{{- $warnings := list -}}
{{- if not (or .Values.postgresql.external.existingSecret) -}}
{{- $warnings = append $warnings "PostgreSQL is one pod on one volume, without backups: for production use postgresql.external." -}}
{{- end -}}
{{- if and (not .Values.nats.external.existingSecret) (eq (int .Values.nats.replicas) 1) -}}
{{- $warnings = append $warnings "NATS is one server: while it restarts, orders wait, and its disk is the only copy of those that are not drained yet. A new installation with nats.replicas=3 keeps three; this one cannot become it." -}}
{{- end -}}
{{- if and (not .Values.nats.external.existingSecret) (eq (int .Values.nats.replicas) 3) (eq .Values.nats.antiAffinity "preferred") (not .Values.nats.affinity) -}}
{{- $warnings = append $warnings "Two of the NATS servers may share a node, and then are lost together: nats.antiAffinity=required." -}}
{{- end -}}
{{- if and (not .Values.api.autoscaling.enabled) (lt (int .Values.api.replicas) 2) -}}
{{- $warnings = append $warnings "The API has fewer than two replicas: when its node is drained, nobody accepts orders." -}}
{{- end -}}
{{- if not .Values.networkPolicy.enabled -}}
{{- $warnings = append $warnings "networkPolicy.enabled=false: every pod of the cluster reaches NATS, PostgreSQL and the management ports." -}}
{{- end -}}
{{- if not .Values.api.preStopSeconds -}}
{{- $warnings = append $warnings "api.preStopSeconds=0: a rolling update may refuse connections of clients that have not yet heard of it." -}}
{{- end -}}
{{- if .Values.operator.watchAllNamespaces -}}
{{- $warnings = append $warnings "operator.watchAllNamespaces: the operator may scale every Deployment of the cluster." -}}
{{- end -}}
{{- if not .Values.operator.replicas -}}
{{- $warnings = append $warnings "operator.replicas=0: nobody scales the pools." -}}
{{- end -}}
{{- $connections := 4 -}}
{{- $connections = add $connections (mul 4 (ternary .Values.api.autoscaling.maxReplicas (add1 .Values.api.replicas) .Values.api.autoscaling.enabled)) -}}
{{- range .Values.pools -}}
{{- $connections = add $connections (mul 2 (dig "replicas" "max" 20 .)) -}}
{{- end -}}
{{- $most := dig "max_connections" 100 .Values.postgresql.parameters | int -}}
{{- if and (not .Values.postgresql.external.existingSecret) (gt (add $connections 10) $most) -}}
{{- $warnings = append $warnings (printf "Up to %d connections to PostgreSQL, and max_connections is %d: raise it, or lower replicas.max of the pools." $connections $most) -}}
{{- end -}}
{{- if $warnings }}

Please note:
{{- range $warnings }}
- {{ . }}
{{- end }}
{{- end }}
{{- end -}}
