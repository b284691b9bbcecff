{{/* What the operator may do where WorkerPools are. One reason for each rule; nothing that it does not use. */}}
{{- define "peakclip.operatorRules" -}}
# Reads what is wished for, and hears of changes at once.
- apiGroups: [peakclip.dev]
  resources: [workerpools]
  verbs: [list, watch]
# Says what it found and decided: conditions, lag, rates.
- apiGroups: [peakclip.dev]
  resources: [workerpools/status]
  verbs: [patch]
# Reads and sets the number of workers, and nothing else of the Deployment.
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [get, patch]
# Counts the workers that are ready, and marks idle ones (pod-deletion-cost) so that they are removed first.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, patch]
# Tells people what it did: `kubectl describe workerpool`.
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* What it may do in its own namespace. The Lease is the chart's, so that it needs no right to make any, and so that it
goes with the release. */}}
{{- define "peakclip.operatorLeaseRules" -}}
# Takes, renews and gives back the one Lease by which one of several operators acts.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "peakclip.fullname" . }}-operator]
  verbs: [get, update]
{{- end -}}
