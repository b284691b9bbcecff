{{/* A size in bytes: 20Gi of Kubernetes, 18GB of NATS (to which that is GiB). */}}
{{- define "peakclip.bytes" -}}
{{- $text := include "peakclip.text" . -}}
{{- $number := regexFind "^[0-9.]+" $text -}}
{{- $powers := dict "" 0 "k" 3 "M" 6 "G" 9 "T" 12 "P" 15 "E" 18 -}}
{{- $binary := dict "Ki" 1 "KB" 1 "Mi" 2 "MB" 2 "Gi" 3 "GB" 3 "Ti" 4 "TB" 4 "Pi" 5 "Ei" 6 -}}
{{- $unit := trimPrefix $number $text -}}
{{- $factor := 1 -}}
{{- range until (get $powers $unit | default 0 | int) }}{{ $factor = mul $factor 10 }}{{ end -}}
{{- range until (get $binary $unit | default 0 | int) }}{{ $factor = mul $factor 1024 }}{{ end -}}
{{- mulf (float64 $number) $factor | int64 -}}
{{- end -}}

{{/* What would cost data, or would never become ready. */}}
{{- define "peakclip.natsChecks" -}}
{{- $nats := .Values.nats -}}
{{- $claim := printf "data-%s-nats" (include "peakclip.fullname" .) -}}
{{- $first := lookup "v1" "PersistentVolumeClaim" .Release.Namespace (printf "%s-0" $claim) -}}
{{- $second := lookup "v1" "PersistentVolumeClaim" .Release.Namespace (printf "%s-1" $claim) -}}
{{- if and $first (not $second) (gt (int $nats.replicas) 1) -}}
{{- fail (printf "nats.replicas cannot become %d: a cluster deletes the streams of the lone server whose volume is %s-0. See docs/howto/upgrade.md." (int $nats.replicas) $claim) -}}
{{- end -}}
{{- if and $second (eq (int $nats.replicas) 1) -}}
{{- fail (printf "nats.replicas cannot become 1: the volumes %s-… are of three servers, and one of them alone may lack what the others have." $claim) -}}
{{- end -}}
{{- $most := include "peakclip.bytes" $nats.maxFileStore | int64 -}}
{{- if ge $most (include "peakclip.bytes" $nats.storage.size | int64) -}}
{{- fail (printf "nats.maxFileStore (%s) must be below nats.storage.size (%v): a full disk stops JetStream." $nats.maxFileStore $nats.storage.size) -}}
{{- end -}}
{{- if lt $most (include "peakclip.bytes" "9GB" | int64) -}}
{{- fail (printf "nats.maxFileStore (%s) must be 9GB or more: the streams reserve 8.3 GiB, and are not made where there is less." $nats.maxFileStore) -}}
{{- end -}}
{{- end -}}
