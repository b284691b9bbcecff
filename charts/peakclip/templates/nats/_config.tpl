{{/* The server's configuration. Passwords come from the environment: $API_PASSWORD and so on. */}}
{{- define "peakclip.natsConfig" -}}
{{- $name := printf "%s-nats" (include "peakclip.fullname" .) -}}
# What each role may say and hear: from lib/peakclip/roles.py.
include ./nats-permissions.conf

server_name: $POD_NAME
listen: "0.0.0.0:4222"
# For the kubelet's probes. No NetworkPolicy lets anybody else in.
http: "0.0.0.0:8222"
max_payload: 8MB
pid_file: /tmp/nats.pid
# `always`: the default acknowledges a message up to two minutes before it is on the disk.
jetstream {
  store_dir: /data
  sync_interval: always
  max_file_store: {{ .Values.nats.maxFileStore }}
  max_memory_store: {{ .Values.nats.maxMemoryStore }}
}
# The import lets the application read the server's own report: whether it really syncs every write.
accounts {
  SYS {
    exports: [{service: "$SYS.REQ.SERVER.PING.JSZ"}]
  }
  APP {
    jetstream: enabled
    users: [
      {{- range $role := splitList " " (include "peakclip.natsRoles" .) }}
      {user: {{ $role }}, password: ${{ upper $role }}_PASSWORD, permissions: $PERMISSIONS_{{ upper $role }}}
      {{- end }}
    ]
    imports: [{service: {account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ"}}]
  }
}
system_account: SYS
{{- if gt (int .Values.nats.replicas) 1 }}
# Before it ends, a server hands its streams to the others and asks its clients to move.
lame_duck_duration: 30s
lame_duck_grace_period: 2s
cluster {
  name: {{ $name }}
  listen: "0.0.0.0:6222"
  authorization {user: route, password: $CLUSTER_PASSWORD}
  routes: [{{ range $i := until (int .Values.nats.replicas) }}{{ if $i }}, {{ end }}$ROUTE_{{ $i }}{{ end }}]
}
{{- end }}
{{ end -}}
