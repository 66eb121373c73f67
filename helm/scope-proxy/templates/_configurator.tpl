{{/* The DaemonSet that writes hosts.toml files; arguments: root, action (apply or remove), annotations. */}}

{{/* URLs at which nodes reach the proxy, one per line: the node's own proxy first. */}}
{{- define "scope-proxy.endpoints" -}}
{{- $service := .Values.central.service -}}
{{- $scheme := ternary "https" "http" .Values.tls.enabled -}}
{{- if include "scope-proxy.hasNode" . }}
http://127.0.0.1:{{ int .Values.node.port }}
{{- end }}
{{- if include "scope-proxy.hasCentral" . }}
{{- if $service.clusterIP }}
{{ $scheme }}://{{ $service.clusterIP }}:{{ int $service.port }}
{{- else if $service.nodePort }}
{{ $scheme }}://$(HOST_IP):{{ int $service.nodePort }}
{{- end }}
{{- end }}
{{- end -}}

{{/* "true" if nodes need the CA certificate of the central instances. */}}
{{- define "scope-proxy.nodesNeedAuthority" -}}
{{- if and (include "scope-proxy.hasCentral" .) .Values.tls.enabled .Values.tls.caKey }}true{{ end -}}
{{- end -}}

{{- define "scope-proxy.configuratorArguments" -}}
- node
- {{ .action }}
- --certs-dir={{ .root.Values.nodeConfigurator.certsDir }}
- --instance={{ .root.Release.Namespace }}/{{ .root.Release.Name }}
{{- if eq .action "apply" }}
- --config=/etc/scope-proxy/config/config.yaml
{{- range include "scope-proxy.endpoints" .root | trim | splitList "\n" }}
- --proxy={{ trim . }}
{{- end }}
{{- if include "scope-proxy.nodesNeedAuthority" .root }}
- --ca-file=/etc/scope-proxy/authority/ca.crt
{{- end }}
- --image-registry={{ .root.Values.image.registry }}
- --wait={{ int .root.Values.nodeConfigurator.interval }}
- --watch={{ int .root.Values.nodeConfigurator.interval }}
{{- end }}
{{- end -}}

{{/* A container of the configurator; arguments: root, name, and args (text) or command (list). */}}
{{- define "scope-proxy.configuratorContainer" -}}
name: {{ .name }}
image: {{ include "scope-proxy.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
{{- with .command }}
command: {{ toJson . }}
{{- end }}
{{- with .args }}
args:
  {{- . | nindent 2 }}
env:
  - name: HOST_IP
    valueFrom: {fieldRef: {fieldPath: status.hostIP}}
{{- end }}
securityContext:
  {{- include "scope-proxy.securityContext" . | nindent 2 }}
resources:
  {{- toYaml .root.Values.nodeConfigurator.resources | nindent 2 }}
{{- if .args }}
volumeMounts:
  # The same paths as on the node: containerd's configuration beside the directory shows whether containerd reads it.
  - {name: containerd, mountPath: {{ dir .root.Values.nodeConfigurator.certsDir | quote }}, readOnly: true}
  - {name: certs, mountPath: {{ .root.Values.nodeConfigurator.certsDir | quote }}}
  - {name: config, mountPath: /etc/scope-proxy/config, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  {{- if include "scope-proxy.nodesNeedAuthority" .root }}
  - {name: authority, mountPath: /etc/scope-proxy/authority, readOnly: true}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "scope-proxy.configurator" -}}
{{- $python := "/opt/scope-proxy/bin/python3" -}}
{{- $arguments := include "scope-proxy.configuratorArguments" . -}}
{{- $component := dict "root" .root "component" "configurator" }}
apiVersion: apps/v1
kind: DaemonSet
metadata:
  {{- include "scope-proxy.metadata" (dict "root" .root "component" "configurator" "suffix" "configurator" "annotations" .annotations) | nindent 2 }}
spec:
  selector:
    matchLabels:
      {{- include "scope-proxy.selector" $component | nindent 6 }}
  updateStrategy:
    type: RollingUpdate
    rollingUpdate: {maxUnavailable: 10%}
  template:
    metadata:
      labels:
        {{- include "scope-proxy.labels" $component | nindent 8 }}
    spec:
      {{- include "scope-proxy.podBase" .root | nindent 6 }}
      hostNetwork: true # the proxy of the node listens on the node's loopback
      terminationGracePeriodSeconds: 5
      securityContext:
        # The directory belongs to root; writing into it needs no capability.
        runAsUser: 0
        runAsGroup: 0
        {{- include "scope-proxy.confinement" (.root.Values.nodeConfigurator.podSecurityContext | default dict) | nindent 8 }}
      {{- include "scope-proxy.placement" (pick .root.Values.node "tolerations" "nodeSelector" "priorityClassName") | trim | nindent 6 }}
      {{- if eq .action "remove" }}
      initContainers:
        # After this time the pod that wrote the files has terminated.
        - {{- include "scope-proxy.configuratorContainer" (dict "root" .root "name" "settle" "command" (list $python "-c" "import time; time.sleep(10)")) | nindent 10 }}
        - {{- include "scope-proxy.configuratorContainer" (dict "root" .root "name" "remove" "args" $arguments) | nindent 10 }}
      containers:
        - {{- include "scope-proxy.configuratorContainer" (dict "root" .root "name" "done" "command" (list $python "-c" "import signal; signal.sigwait([signal.SIGTERM])")) | nindent 10 }}
      {{- else }}
      containers:
        - {{- include "scope-proxy.configuratorContainer" (dict "root" .root "name" "configurator" "args" $arguments) | nindent 10 }}
      {{- end }}
      volumes:
        - name: containerd
          hostPath: {path: {{ dir .root.Values.nodeConfigurator.certsDir | quote }}, type: DirectoryOrCreate}
        - name: certs
          hostPath: {path: {{ .root.Values.nodeConfigurator.certsDir | quote }}, type: DirectoryOrCreate}
        {{- if include "scope-proxy.nodesNeedAuthority" .root }}
        - name: authority
          secret: {secretName: {{ include "scope-proxy.tlsSecret" .root }}, defaultMode: 0440, items: [{key: {{ .root.Values.tls.caKey }}, path: ca.crt}]}
        {{- end }}
        - name: config
          configMap: {name: {{ include "scope-proxy.fullname" .root }}-{{ ternary "node" "central" (eq (include "scope-proxy.hasNode" .root) "true") }}}
        - name: tmp
          emptyDir: {medium: Memory, sizeLimit: 16Mi}
{{- end -}}
