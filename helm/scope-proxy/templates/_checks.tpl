{{/* Fails the rendering with all invalid values at once, each with what to do. The schema checks types before that. */}}

{{- define "scope-proxy.checks" -}}
{{- $errors := list -}}
{{- range list "config" "secrets" "image" "node" "central" "network" "monitoring" "configurator" "prefetch" "seccomp" -}}
{{- $errors = concat $errors (include (printf "scope-proxy.check.%s" .) $ | trim | splitList "\n" | compact) -}}
{{- end -}}
{{- if $errors -}}
{{- fail (printf "\n\nInvalid values:\n- %s\n" (join "\n- " $errors)) -}}
{{- end -}}
{{- end -}}

{{- define "scope-proxy.check.config" -}}
{{- $config := .Values.config -}}
{{- range list "listeners" "admin" }}
{{- if hasKey $config . }}
config.{{ . }} is set by the chart: use node.port, node.adminPort, node.metricsPort, central.port, central.clients and tls instead
{{- end }}
{{- end }}
{{- range list "path" "maxSize" }}
{{- if hasKey ($config.cache | default dict) . }}
config.cache.{{ . }} is set by the chart: use node.cache, or central.persistence and central.cacheSize instead
{{- end }}
{{- end }}
{{- if and (hasKey $config.registries "*") (not (index $config.registries "*").endpoints) }}
config.registries."*" needs endpoints: otherwise the proxy would connect to any host that a node names
{{- end }}
{{- end -}}

{{/* Passwords must not be in values: they would appear in a ConfigMap, and in Helm's record of the release. */}}
{{- define "scope-proxy.check.secrets" -}}
{{- $root := . -}}
{{- range $host, $settings := .Values.config.hosts }}
{{- $credentials := ($settings | default dict).credentials | default list }}
{{- range $credential := ternary (list $credentials) $credentials (kindIs "map" $credentials) }}
{{- range $key := list "password" "identityToken" }}
{{- if hasKey $credential $key }}
config.hosts."{{ $host }}" has a {{ $key }} in plain text, which would appear in a ConfigMap: store it in a Secret, add the Secret under secrets, and set {{ $key }}File: /etc/scope-proxy/secrets/<name>/<key>
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- range $registry, $settings := .Values.config.registries }}
{{- range ($settings | default dict).endpoints }}
{{- $url := ternary . (dig "url" "" (ternary . (dict) (kindIs "map" .))) (kindIs "string" .) }}
{{- if regexMatch "^(?i:[a-z]+)://[^/]*@" $url }}
config.registries."{{ $registry }}" has an endpoint with user name or password: set them under config.hosts, with a passwordFile
{{- end }}
{{- end }}
{{- end }}
{{- range $place, $file := include "scope-proxy.files" . | fromYaml }}
{{- if not (include "scope-proxy.isMounted" (dict "root" $root "file" $file)) }}
{{ $place }} is {{ $file }}, and nothing is mounted there: use /etc/scope-proxy/secrets/<name>/<key> and add secrets: {<name>: {secretName: ...}}, or /etc/scope-proxy/ca/<name>/<key> and add authorities: {<name>: {configMapName: ...}}
{{- end }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if and .value (regexMatch "(?i)(password|passwd|secret|token)" .name) }}
extraEnv {{ .name }} looks like a secret in plain text: use valueFrom with a secretKeyRef
{{- end }}
{{- end }}
{{- range $name, $source := .Values.authorities }}
{{- if eq (empty $source.configMapName) (empty $source.secretName) }}
authorities.{{ $name }} needs either configMapName or secretName
{{- end }}
{{- end }}
{{- end -}}

{{/* Every file that the configuration names; the key is the setting that names it. */}}
{{- define "scope-proxy.files" -}}
{{- range $index, $file := .Values.config.dockerConfigFiles }}
{{ printf "config.dockerConfigFiles[%d]" $index | quote }}: {{ $file | quote }}
{{- end }}
{{- range $host, $settings := .Values.config.hosts }}
{{- $credentials := ($settings | default dict).credentials | default list }}
{{- range $index, $credential := ternary (list $credentials) $credentials (kindIs "map" $credentials) }}
{{- range $key, $file := pick $credential "passwordFile" "identityTokenFile" "dockerConfigFile" }}
{{ printf "config.hosts.%s.credentials[%d].%s" $host $index $key | quote }}: {{ $file | quote }}
{{- end }}
{{- end }}
{{- range $key, $file := pick (($settings | default dict).tls | default dict) "caFile" "certFile" "keyFile" }}
{{ printf "config.hosts.%s.tls.%s" $host $key | quote }}: {{ $file | quote }}
{{- end }}
{{- end }}
{{- if include "scope-proxy.hasCentral" . }}
{{- range $key, $file := pick .Values.central.clients "htpasswdFile" "tokenKeyFile" }}
central.clients.{{ $key }}: {{ $file | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* "true" if a file is in the pod: in the image, or on a volume; arguments: root and file. */}}
{{- define "scope-proxy.isMounted" -}}
{{- $values := .root.Values -}}
{{- $directories := list "/etc/ssl/certs/" -}}
{{- range keys $values.secrets }}{{ $directories = append $directories (printf "/etc/scope-proxy/secrets/%s/" .) }}{{ end -}}
{{- range keys $values.authorities }}{{ $directories = append $directories (printf "/etc/scope-proxy/ca/%s/" .) }}{{ end -}}
{{- range $values.dockerConfigSecrets }}{{ $directories = append $directories (printf "/etc/scope-proxy/docker/%s/" .) }}{{ end -}}
{{- range $directories }}{{ if hasPrefix . $.file }}true{{ end }}{{ end -}}
{{- end -}}

{{- define "scope-proxy.check.image" -}}
{{- $way := .Values.bootstrap.way -}}
{{- $image := .Values.image -}}
{{- $local := eq $image.registry "localhost" -}}
{{- if and (eq $way "preloaded") (eq $image.pullPolicy "Always") }}
image.pullPolicy Always cannot start a preloaded image: set IfNotPresent or Never, or another bootstrap.way
{{- end }}
{{- if and (ne $way "preloaded") (or $local (eq $image.pullPolicy "Never")) }}
with bootstrap.way {{ $way }} nodes pull the image: set image.registry to the registry that holds it, and image.pullPolicy to IfNotPresent
{{- end }}
{{- if and (eq $way "strict") (not .Values.imagePullSecrets) }}
with bootstrap.way strict nodes pull the image from the strict registry itself: add the Secret with its credentials to imagePullSecrets
{{- end }}
{{- $mirrored := get .Values.config.registries $image.registry | default dict }}
{{- if and (eq $way "public") $mirrored.rewrites }}
config.registries."{{ $image.registry }}" has rewrites and serves the proxy's own image: a node whose proxy is down could not start it. Set bootstrap.way to preloaded, or to strict with the final path, or pull the image from another registry
{{- end }}
{{- if eq $image.tag "latest" }}
image.tag latest does not identify a version: set a version or a digest
{{- end }}
{{- end -}}

{{- define "scope-proxy.check.node" -}}
{{- if include "scope-proxy.hasNode" . }}
{{- $node := .Values.node }}
{{- $hostPort := eq $node.exposure "hostPort" }}
{{- if and $hostPort (not .Values.networkPolicy.enabled) }}
node.exposure hostPort lets every pod of the cluster pull with the proxy's credentials, by the address of the proxy's pod: set networkPolicy.enabled: true (if your network plugin enforces policies), or node.exposure: hostNetwork
{{- end }}
{{- include "scope-proxy.check.ports" (dict "section" "node" "values" $node) }}
{{- if and (eq $node.cache.type "emptyDir") (include "scope-proxy.isMore" (list $node.cache.maxSize $node.cache.sizeLimit)) }}
node.cache.maxSize {{ $node.cache.maxSize }} is not below node.cache.sizeLimit {{ $node.cache.sizeLimit }}: the kubelet would evict the pod before the cache is full
{{- end }}
{{- if regexMatch "^(127\\.|0*(:0*)*:0*1$)" ($node.metricsAddress | default "") }}
node.metricsAddress {{ $node.metricsAddress }} is loopback, where node.adminPort already serves metrics: leave it empty, or set an address that Prometheus can reach
{{- end }}
{{- if and $node.metricsAddress $hostPort }}
node.metricsAddress is for pods in the network of the host: with node.exposure hostPort metrics are on the pod's own address, so leave it empty
{{- end }}
{{- end }}
{{- end -}}

{{/* Arguments: section and its values. */}}
{{- define "scope-proxy.check.ports" -}}
{{- $ports := list (int .values.port) (int .values.adminPort) (int .values.metricsPort) }}
{{- if ne (len (uniq $ports)) (len $ports) }}
{{ .section }}.port, {{ .section }}.adminPort and {{ .section }}.metricsPort are {{ join ", " $ports }}: each needs a port of its own
{{- end }}
{{- end -}}

{{- define "scope-proxy.check.central" -}}
{{- if include "scope-proxy.hasCentral" . }}
{{- $central := .Values.central }}
{{- $auth := $central.clients.auth | default "none" }}
{{- $auth = ternary (list $auth) $auth (kindIs "string" $auth) }}
{{- $most := ternary (int $central.autoscaling.maxReplicas) (int $central.replicas) $central.autoscaling.enabled }}
{{- if and (has "none" $auth) (include "scope-proxy.hasCredentials" .) (not $central.clients.allowAnonymous) }}
central.clients.auth is none and config has credentials: every pod of the cluster could pull with them. Set central.clients to {auth: upstream}, {auth: basic, ...} or {auth: certificate, ...}, or accept it with {auth: none, allowAnonymous: true}, best together with networkPolicy.enabled
{{- end }}
{{- if and (has "certificate" $auth) (not .Values.tls.clientCA.existingSecret) }}
central.clients.auth certificate needs the CA certificates of the clients: set tls.clientCA.existingSecret and tls.enabled
{{- end }}
{{- if and .Values.tls.clientCA.existingSecret (not (has "certificate" $auth)) }}
tls.clientCA.existingSecret is set, but central.clients.auth accepts no certificates: set auth to certificate, or leave existingSecret empty
{{- end }}
{{- include "scope-proxy.check.ports" (dict "section" "central" "values" $central) }}
{{- if and $central.persistence.existingClaim (gt $most 1) }}
central.persistence.existingClaim is one volume for {{ $most }} instances, but each needs its own: set central.replicas: 1, or leave existingClaim empty
{{- end }}
{{- if include "scope-proxy.isMore" (list $central.cacheSize $central.persistence.size) }}
central.cacheSize {{ $central.cacheSize }} is not below central.persistence.size {{ $central.persistence.size }}: leave room for running downloads
{{- end }}
{{- if and $central.autoscaling.enabled (gt (int $central.autoscaling.minReplicas) (int $central.autoscaling.maxReplicas)) }}
central.autoscaling.minReplicas is more than maxReplicas
{{- end }}
{{- if and $central.autoscaling.enabled (not (dig "requests" "cpu" "" $central.resources)) }}
central.autoscaling measures a percentage of the requested CPU: set central.resources.requests.cpu
{{- end }}
{{- if and $central.service.nodePort (ne $central.service.type "NodePort") }}
central.service.nodePort is set, but central.service.type is {{ $central.service.type }}: set it to NodePort
{{- end }}
{{- if and $central.service.trafficDistribution (not (include "scope-proxy.atLeast" (dict "root" . "version" "1.31"))) }}
central.service.trafficDistribution needs Kubernetes 1.31 or newer: leave it empty
{{- end }}
{{- end }}
{{- if and .Values.tls.enabled (eq (empty .Values.tls.existingSecret) (not .Values.tls.certManager.enabled)) }}
tls.enabled needs one of tls.existingSecret and tls.certManager.enabled
{{- end }}
{{- if and .Values.tls.enabled (eq .Values.mode "node") }}
tls is for central instances: with mode node the proxy listens only on 127.0.0.1. Set tls.enabled: false, or mode both
{{- end }}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.enabled) }}
tls.certManager.enabled has no effect without tls.enabled: true
{{- end }}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.certManager.issuerRef.name) }}
tls.certManager.issuerRef.name is empty: name the Issuer or ClusterIssuer that signs
{{- end }}
{{- if and .Values.tls.clientCA.existingSecret (not .Values.tls.enabled) }}
tls.clientCA.existingSecret needs tls.enabled: true
{{- end }}
{{- end -}}

{{- define "scope-proxy.check.network" -}}
{{- $policy := .Values.networkPolicy -}}
{{- if and $policy.enabled (include "scope-proxy.hasCentral" .) (not (or $policy.nodeCIDRs $policy.clients)) }}
networkPolicy.enabled would block all nodes from the central instances: list the nodes' networks in networkPolicy.nodeCIDRs
{{- end }}
{{- if and $policy.enabled (eq .Values.mode "node") (eq .Values.node.exposure "hostNetwork") }}
networkPolicy.enabled has no effect on pods in the network of the host: disable it, or set node.exposure: hostPort
{{- end }}
{{- if and $policy.egress.enabled (not $policy.egress.rules) }}
networkPolicy.egress.enabled without rules would block the proxy from every registry: add rules to networkPolicy.egress.rules
{{- end }}
{{- range $index, $rule := $policy.egress.rules }}
{{- if and $policy.egress.enabled (hasKey $rule "to") (not $rule.to) }}
networkPolicy.egress.rules[{{ $index }}].to is empty, which allows every address: list the intended addresses, or remove the rule
{{- end }}
{{- end }}
{{- $grace := int (include "scope-proxy.shutdownGrace" .) }}
{{- if and .Values.terminationGracePeriodSeconds (le (int .Values.terminationGracePeriodSeconds) $grace) }}
terminationGracePeriodSeconds {{ int .Values.terminationGracePeriodSeconds }} is not above config.timeouts.shutdownGrace ({{ $grace }} s): running pulls would be killed. Set it to {{ add $grace 10 }}, or to 0 to let the chart compute it
{{- end }}
{{- end -}}

{{- define "scope-proxy.check.monitoring" -}}
{{- $metrics := .Values.metrics -}}
{{- if and $metrics.serviceMonitor.enabled $metrics.podMonitor.enabled }}
metrics.serviceMonitor and metrics.podMonitor are both enabled: Prometheus would collect all metrics twice. Choose one
{{- end }}
{{- $alerts := list }}
{{- range (.Files.Get "rules/scope-proxy.rules.yaml" | fromYaml).groups }}{{ range .rules }}{{ $alerts = append $alerts .alert }}{{ end }}{{ end }}
{{- range $metrics.prometheusRule.disabledAlerts }}
{{- if not (has . $alerts) }}
metrics.prometheusRule.disabledAlerts contains {{ . }}, which is not an alert of the chart. The alerts are {{ compact $alerts | uniq | join ", " }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "scope-proxy.check.configurator" -}}
{{- $service := .Values.central.service -}}
{{- if .Values.nodeConfigurator.enabled }}
{{- if not .Values.config.registries }}
nodeConfigurator.enabled is set, but no registry is configured: add config.registries
{{- end }}
{{- if include "scope-proxy.hasCentral" . }}
{{- if not (or $service.clusterIP $service.nodePort) }}
nodeConfigurator needs an address of the central instances, and nodes do not resolve Service names: set central.service.type: NodePort with a central.service.nodePort, or central.service.clusterIP
{{- end }}
{{- $auth := .Values.central.clients.auth | default "none" }}
{{- $auth = ternary (list $auth) $auth (kindIs "string" $auth) }}
{{- if or (has "basic" $auth) (has "certificate" $auth) }}
nodeConfigurator writes no credentials into nodes' files, but central.clients.auth requires them: use none or upstream, or write the nodes' files yourself
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "scope-proxy.check.prefetch" -}}
{{- $prefetch := .Values.prefetch | default dict -}}
{{- $auth := .Values.central.clients.auth | default "none" }}
{{- $auth = ternary (list $auth) $auth (kindIs "string" $auth) }}
{{- if and $prefetch.images (not (include "scope-proxy.hasCentral" .)) }}
prefetch.images needs central instances: with mode node each cache is on its own node, in a volume that a Job cannot mount, behind a listener on that node's loopback. Set mode to both or central, or leave prefetch.images empty
{{- else if $prefetch.images }}
{{- if not (or $prefetch.afterInstall $prefetch.schedule) }}
prefetch.images is set and nothing downloads them: set prefetch.afterInstall: true or a prefetch.schedule
{{- end }}
{{- if and (has "basic" $auth) (not (or (has "none" $auth) $prefetch.loginSecret (and (has "certificate" $auth) $prefetch.certificateSecret))) }}
prefetch needs a login, because central.clients.auth is {{ join ", " $auth }}: name a Secret with username and password in prefetch.loginSecret
{{- end }}
{{- if and (eq (toJson $auth) (toJson (list "certificate"))) (not $prefetch.certificateSecret) }}
prefetch needs a client certificate, because central.clients.auth is certificate: name a Secret with tls.crt and tls.key in prefetch.certificateSecret
{{- end }}
{{- if and $prefetch.certificateSecret (not .Values.tls.enabled) }}
prefetch.certificateSecret needs tls.enabled: true
{{- end }}
{{- end }}
{{- end -}}

{{- define "scope-proxy.check.seccomp" -}}
{{- range $prefix, $context := dict "" .Values.podSecurityContext "nodeConfigurator." .Values.nodeConfigurator.podSecurityContext }}
{{- $profile := ($context | default dict).seccompProfile | default dict }}
{{- if and (eq ($profile.type | default "") "Localhost") (not $profile.localhostProfile) }}
{{ $prefix }}podSecurityContext.seccompProfile: type Localhost needs localhostProfile, a file in the kubelet's seccomp directory on every node
{{- else if and $profile.localhostProfile (ne ($profile.type | default "") "Localhost") }}
{{ $prefix }}podSecurityContext.seccompProfile: localhostProfile is only for type Localhost: set that type, or remove it
{{- end }}
{{- end }}
{{- end -}}

{{/* "true" if the first of two sizes is not less than the second. */}}
{{- define "scope-proxy.isMore" -}}
{{- if ge (include "scope-proxy.mebibytes" (first .) | float64) (include "scope-proxy.mebibytes" (last .) | float64) }}true{{ end -}}
{{- end -}}

{{- define "scope-proxy.mebibytes" -}}
{{- $number := regexFind "^[0-9.]+" . | float64 -}}
{{- mulf $number (get (dict "Ki" 0.0009765625 "Mi" 1.0 "Gi" 1024.0 "Ti" 1048576.0) (regexFind "[A-Z]i$" .) | default 1.0) -}}
{{- end -}}
