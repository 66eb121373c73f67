{{/* Parts that node pods and central pods share. */}}

{{- define "scope-proxy.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "scope-proxy.podSecurityContext" -}}
{{ toYaml (omit .Values.podSecurityContext "seccompProfile" "seLinuxOptions") }}
{{ include "scope-proxy.confinement" .Values.podSecurityContext }}
{{- end -}}

{{/* Seccomp profile and SELinux labels; argument: a value podSecurityContext; values of older releases lack them. */}}
{{- define "scope-proxy.confinement" -}}
seccompProfile: {{ toJson (.seccompProfile | default (dict "type" "RuntimeDefault")) }}
{{- with .seLinuxOptions }}
seLinuxOptions: {{ toJson . }}
{{- end }}
{{- end -}}

{{/* Service account and pull secrets of every pod. No pod uses the API server, so none gets a token. */}}
{{- define "scope-proxy.podBase" -}}
serviceAccountName: {{ include "scope-proxy.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Probes; argument: whether the pod is in its node's network. There the kubelet reaches the admin address; in a pod's
     own network, that is the pod's loopback. Readiness depends on the proxy, never on a registry. */}}
{{- define "scope-proxy.probes" -}}
{{- $where := ternary "port: admin, host: 127.0.0.1" "port: metrics" . -}}
startupProbe:
  httpGet: {path: /healthz, {{ $where }}}
  periodSeconds: 2
  failureThreshold: 60
  timeoutSeconds: 2
readinessProbe:
  httpGet: {path: /readyz, {{ $where }}}
  periodSeconds: 5
  timeoutSeconds: 2
livenessProbe:
  httpGet: {path: /healthz, {{ $where }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{/* The container; arguments: root, port, adminPort, metrics (address, empty for none), hostNetwork, hostPort, resources,
     cached, tls. */}}
{{- define "scope-proxy.container" -}}
name: scope-proxy
image: {{ include "scope-proxy.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [serve{{ with .metrics }}, {{ printf "--metrics=%s" . | quote }}{{ end }}]
env:
  - {name: SCOPE_PROXY_CONFIG, value: /etc/scope-proxy/config/config.yaml}
  {{- if contains "$(HOST_IP)" .metrics }}
  - {name: HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
  {{- end }}
  {{- with .root.Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - name: registry
    containerPort: {{ int .port }}
    {{- if .hostPort }}
    hostPort: {{ int .port }}
    hostIP: 127.0.0.1
    {{- end }}
    protocol: TCP
  - name: admin
    containerPort: {{ int .adminPort }}
    protocol: TCP
  {{- with .metrics }}
  - name: metrics
    containerPort: {{ splitList ":" . | last }}
    protocol: TCP
  {{- end }}
securityContext:
  {{- include "scope-proxy.securityContext" . | nindent 2 }}
{{ include "scope-proxy.probes" (.hostNetwork | default false) }}
resources:
  {{- toYaml .resources | nindent 2 }}
volumeMounts:
  {{- include "scope-proxy.mounts" . | nindent 2 }}
  {{- if .cached }}
  {{- /* The volume may belong to root and be writable by others: the proxy creates its own directory in it. */}}
  - {name: cache, mountPath: /var/cache/scope-proxy}
  {{- end }}
{{- end -}}

{{/* Mounts of the volumes; arguments: root, tls. */}}
{{- define "scope-proxy.mounts" -}}
- {name: config, mountPath: /etc/scope-proxy/config, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- range $name, $_ := .root.Values.secrets }}
- {name: secret-{{ $name }}, mountPath: /etc/scope-proxy/secrets/{{ $name }}, readOnly: true}
{{- end }}
{{- range $index, $name := .root.Values.dockerConfigSecrets }}
- {name: docker-{{ $index }}, mountPath: /etc/scope-proxy/docker/{{ $name }}, readOnly: true}
{{- end }}
{{- range $name, $_ := .root.Values.authorities }}
- {name: ca-{{ $name }}, mountPath: /etc/scope-proxy/ca/{{ $name }}, readOnly: true}
{{- end }}
{{- if .tls }}
- {name: tls, mountPath: /etc/scope-proxy/tls, readOnly: true}
{{- if .root.Values.tls.clientCA.existingSecret }}
- {name: client-ca, mountPath: /etc/scope-proxy/client-ca, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{/* All volumes except the cache; arguments: root, component, tls. Only owner and group can read files of Secrets. */}}
{{- define "scope-proxy.volumes" -}}
- name: config
  configMap: {name: {{ include "scope-proxy.fullname" .root }}-{{ .component }}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
{{- range $name, $secret := .root.Values.secrets }}
- name: secret-{{ $name }}
  secret: {secretName: {{ $secret.secretName }}, defaultMode: 0440}
{{- end }}
{{- range $index, $name := .root.Values.dockerConfigSecrets }}
- name: docker-{{ $index }}
  secret: {secretName: {{ $name }}, defaultMode: 0440, items: [{key: .dockerconfigjson, path: config.json}]}
{{- end }}
{{- range $name, $source := .root.Values.authorities }}
- name: ca-{{ $name }}
  {{- if $source.configMapName }}
  configMap: {name: {{ $source.configMapName }}}
  {{- else }}
  secret: {secretName: {{ $source.secretName }}, defaultMode: 0440}
  {{- end }}
{{- end }}
{{- if .tls }}
- name: tls
  secret: {secretName: {{ include "scope-proxy.tlsSecret" .root }}, defaultMode: 0440}
{{- with .root.Values.tls.clientCA.existingSecret }}
- name: client-ca
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- end -}}

{{/* Scheduling of pods; argument: the value `node` or `central`. */}}
{{- define "scope-proxy.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Options of `scope-proxy healthcheck` for a node's proxy and the central instances: it connects as clients do, or
     to the metrics port if clients need a certificate. */}}
{{- define "scope-proxy.nodeHealthcheck" -}}
--proxy=http://127.0.0.1:{{ int .Values.node.port }}
{{- end -}}

{{- define "scope-proxy.centralHealthcheck" -}}
{{- $host := printf "%s-instances.%s" (include "scope-proxy.fullname" .) .Release.Namespace -}}
{{- if include "scope-proxy.wantsCertificate" . -}}
--admin={{ $host }}:{{ int .Values.central.metricsPort }}
{{- else -}}
--proxy={{ ternary "https" "http" .Values.tls.enabled }}://{{ $host }}:{{ int .Values.central.port }}
{{- end -}}
{{- end -}}

{{/* "true" if the central instances respond only to clients with a certificate, so not to a test pod. */}}
{{- define "scope-proxy.wantsCertificate" -}}
{{- $auth := .Values.central.clients.auth | default "none" -}}
{{- if eq (toJson (ternary (list $auth) $auth (kindIs "string" $auth))) (toJson (list "certificate")) }}true{{ end -}}
{{- end -}}

{{/* The container of `helm test`; arguments: root, healthcheck (its option), tls. Its steps, in order: check the proxy,
     check the configuration with its secrets, and log in to the registries over the connections of a pull. */}}
{{- define "scope-proxy.testContainer" -}}
{{- $steps := list (printf "healthcheck %s" .healthcheck) "check" -}}
{{- if and .root.Values.tests.doctor .root.Values.config.registries -}}
{{- $steps = append $steps "doctor" -}}
{{- end -}}
name: test
image: {{ include "scope-proxy.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command:
  - /opt/scope-proxy/bin/python3
  - -c
  - |
    import subprocess, sys

    def run(step):
        print("$ scope-proxy", step, flush=True)
        return subprocess.run(["/opt/scope-proxy/bin/scope-proxy", *step.split()]).returncode

    sys.exit(any([run(step) for step in sys.argv[1:]]))
args: {{ toJson $steps }}
env:
  - {name: SCOPE_PROXY_CONFIG, value: /etc/scope-proxy/config/config.yaml}
  {{- with .root.Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
securityContext:
  {{- include "scope-proxy.securityContext" . | nindent 2 }}
resources: {requests: {cpu: 10m, memory: 64Mi}, limits: {memory: 256Mi}}
volumeMounts:
  {{- /* `check` verifies that the cache is writable. */}}
  - {name: cache, mountPath: /var/cache/scope-proxy}
  {{- include "scope-proxy.mounts" (dict "root" .root "tls" .tls) | nindent 2 }}
{{- end -}}
