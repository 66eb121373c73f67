{{/* What the pods of nodes and central instances share. */}}

{{- define "scope-proxy.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "scope-proxy.podSecurityContext" -}}
{{ toYaml (omit .Values.podSecurityContext "seccompProfile" "seLinuxOptions") }}
{{ include "scope-proxy.confinement" .Values.podSecurityContext }}
{{- end -}}

{{/* Seccomp profile and SELinux labels; argument: a value podSecurityContext, which older releases have without them. */}}
{{- define "scope-proxy.confinement" -}}
seccompProfile: {{ toJson (.seccompProfile | default (dict "type" "RuntimeDefault")) }}
{{- with .seLinuxOptions }}
seLinuxOptions: {{ toJson . }}
{{- end }}
{{- end -}}

{{/* Everything of a pod that the API server is not asked for: it gets no token. */}}
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

{{/* Probes; argument: whether the pod is in the network of its node, where the kubelet reaches the admin address: that of
     a pod's own network is the pod's loopback. Readiness is about the proxy, never a registry. */}}
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
  {{- /* The volume belongs to root and may be open to others: the proxy makes its own directory below it. */}}
  - {name: cache, mountPath: /var/cache/scope-proxy}
  {{- end }}
{{- end -}}

{{/* Where the volumes are mounted; arguments: root, tls. */}}
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

{{/* The volumes besides the cache; arguments: root, component, tls. Secrets are files, readable for the group alone. */}}
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

{{/* Where pods go; argument: the value `node` or `central`. */}}
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

{{/* How the proxy of a node, and the central instances, are asked whether they serve: as their clients ask them. */}}
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

{{/* "true" where nobody without a certificate gets an answer of the central instances, a test pod neither. */}}
{{- define "scope-proxy.wantsCertificate" -}}
{{- $auth := .Values.central.clients.auth | default "none" -}}
{{- if eq (toJson (ternary (list $auth) $auth (kindIs "string" $auth))) (toJson (list "certificate")) }}true{{ end -}}
{{- end -}}

{{/* The container of `helm test`; arguments: root, healthcheck (its option), tls. Its steps run one after the other: the
     proxy, the configuration with the secrets that it names, and the registries over the connections of a pull. */}}
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
  {{- /* `check` looks whether the cache could be written. */}}
  - {name: cache, mountPath: /var/cache/scope-proxy}
  {{- include "scope-proxy.mounts" (dict "root" .root "tls" .tls) | nindent 2 }}
{{- end -}}
