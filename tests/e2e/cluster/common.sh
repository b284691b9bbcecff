# Sourced by every script of this folder: where things are, and how processes start and stop.
# shellcheck shell=bash disable=SC2034 # used by those who source it
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${PEAKCLIP_CLUSTER_CACHE:-$HOME/.cache/peakclip-cluster} # binaries, image archives
RUN=${PEAKCLIP_CLUSTER_RUN:-/run/peakclip-cluster}             # certificates, configuration, logs, pids
DATA=${PEAKCLIP_CLUSTER_DATA:-/var/lib/peakclip-cluster}       # images, containers, volumes (/run may be small)

NODE_IP=10.244.0.1 # the bridge's address: the node, its API server and its DNS
POD_CIDR=10.244.0.0/24
SERVICE_CIDR=10.96.0.0/16
BRIDGE=peakclip0
INGRESS_PORT=8081
WITHOUT_INGRESS=${PEAKCLIP_CLUSTER_WITHOUT_INGRESS:-} # anything: no Traefik
SOCKET=$RUN/containerd.sock
COMPONENTS=(containerd etcd kube-apiserver kube-controller-manager kube-scheduler kubelet
  kube-proxy coredns network-policy hostpath-provisioner traefik)

export PATH=$CACHE/bin:$PATH
export KUBECONFIG=$RUN/admin.conf
# buildah: no user namespaces, no image pulls, the same kernel overlay that containerd uses.
export STORAGE_DRIVER=${STORAGE_DRIVER:-overlay}

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
need_root() { [ "$(id -u)" = 0 ] || die "run as root (containers, bridges and mounts need it)"; }

# install_missing COMMAND:PACKAGE... installs what has no command yet. Asking for commands rather
# than packages leaves a machine alone that has them from elsewhere (Docker's containerd, say).
install_missing() {
  local pair missing=()
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  [ ${#missing[@]} = 0 ] && return
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get install -y --no-install-recommends "${missing[@]}" ||
    { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; }; } >"$CACHE/apt.log" 2>&1 ||
    { tail -n 20 "$CACHE/apt.log" >&2; die "apt could not install ${missing[*]}"; }
}

# A pid is ours only while the process has the start time that we noted: pids are used again.
# A zombie is gone: whoever inherited it may take its time to reap it.
start_time() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" {print $20}'; }
start() { # start NAME COMMAND...: in the background, with a log and a pid file
  local name=$1
  shift
  # A proxy configured for this machine must not get the cluster's own traffic.
  NO_PROXY='*' no_proxy='*' setsid "$@" >"$RUN/logs/$name.log" 2>&1 </dev/null 9>&- &
  say "$! $(start_time $!)" >"$RUN/$name.pid"
}
alive() { # alive NAME
  local pid began
  read -r pid began 2>/dev/null <"$RUN/$1.pid" && [ -n "$began" ] && [ "$(start_time "$pid")" = "$began" ]
}
stop() { # stop NAME: asks, waits up to 5 s, insists
  local pid rest
  alive "$1" || { rm -f "$RUN/$1.pid"; return 0; }
  read -r pid rest <"$RUN/$1.pid"
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 50); do alive "$1" || break; sleep 0.1; done
  alive "$1" && kill -KILL "$pid" 2>/dev/null
  rm -f "$RUN/$1.pid"
}

has_ingress() { [ ! -e "$RUN/without-ingress" ]; }
healthy() { # every component runs, the API answers and the node is ready
  local name
  for name in "${COMPONENTS[@]}"; do
    alive "$name" || { [ "$name" = traefik ] && ! has_ingress; } || return 1
  done
  [ "$(kubectl get --raw=/readyz --request-timeout=5s 2>/dev/null)" = ok ] &&
    kubectl wait --for=condition=Ready node/node --timeout=1s >/dev/null 2>&1
}

# Loads an image archive into the node: what pods run comes from containerd's k8s.io namespace.
node_import() { ctr -a "$SOCKET" -n k8s.io images import "$1" >/dev/null; }
node_has() { [ -n "$(ctr -a "$SOCKET" -n k8s.io images ls -q "name==$1" 2>/dev/null)" ]; }

# An image's archive in the cache: whatever is there is loaded again by the next `up`.
archive_of() { say "$CACHE/images/$(tr '/:' '__' <<<"$1").tar"; }
load_cached() {
  local archive
  mkdir -p "$CACHE/images"
  [ -f "$(archive_of localhost/pause:1)" ] || make_pause_image
  for archive in "$CACHE"/images/*.tar; do node_import "$archive"; done
}
load_image() { # load_image NAME: buildah's storage -> cache -> node
  local archive
  archive=$(archive_of "$1")
  mkdir -p "$CACHE/images"
  rm -f "$archive.part"
  buildah push -q "$1" "docker-archive:$archive.part:$1"
  mv "$archive.part" "$archive"
  if alive containerd; then node_import "$archive"; else say "$1: no node is up; the next \`up\` loads it"; fi
}
make_pause_image() { # an image of one file: a few lines of tar, so that `up` needs no buildah
  local dir
  dir=$(mktemp -d)
  install -m 755 "$CACHE/bin/pause" "$dir/pause"
  tar -C "$dir" --owner=0 --group=0 --mtime=@0 -cf "$dir/layer.tar" pause
  printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["/pause"],"User":"65535:65535"},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')" "$(sha256sum <"$dir/layer.tar" | cut -d' ' -f1)" >"$dir/config.json"
  printf '[{"Config":"config.json","RepoTags":["localhost/pause:1"],"Layers":["layer.tar"]}]' >"$dir/manifest.json"
  tar -C "$dir" -cf "$(archive_of localhost/pause:1)" manifest.json config.json layer.tar
  rm -rf "$dir"
}
