{{/* What the operator may do where WorkerPools are. One reason for each rule; nothing that it does not use. */}}
{{- define "peakclip.operatorRules" -}}
# Reads what is wished for, and hears of changes at once.
- apiGroups: [peakclip.dev]
  resources: [workerpools]
  verbs: [get, list, watch]
# Says what it found and decided: conditions, lag, rates.
- apiGroups: [peakclip.dev]
  resources: [workerpools/status]
  verbs: [patch]
# Reads which pods belong to the workload, and whether the Deployment is there at all.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get]
# Sets the number of workers, and nothing else of the Deployment.
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [get, patch]
# Counts the workers that are ready, and marks idle ones (pod-deletion-cost) so that they are removed first.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, patch]
# Tells people what it did: `kubectl describe workerpool`.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* What it may do in its own namespace: the Lease by which one of several operators acts. */}}
{{- define "peakclip.operatorLeaseRules" -}}
# Makes the Lease the first time. A name cannot be asked for here: the object does not exist yet.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
# Takes, renews and gives back that one Lease.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "peakclip.fullname" . }}-operator]
  verbs: [get, update]
{{- end -}}
