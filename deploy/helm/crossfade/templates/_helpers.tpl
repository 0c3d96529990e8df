{{- define "crossfade.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "crossfade.selector" -}}
app.kubernetes.io/name: crossfade
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "crossfade.labels" -}}
{{ include "crossfade.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "crossfade.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* What values.schema.json cannot say: refused here, with what to do. */}}
{{- define "crossfade.refuse" -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- fail "replicas must be 1: weights are turned on each instance by itself, and two that differ would send one key to both sides" -}}
{{- end -}}
{{- if not .Values.persistence.enabled -}}
{{- range .Values.config.routes -}}
{{- $durability := .durability | default "before-ack" -}}
{{- $ack := .ack | default "authority" -}}
{{- if not (or (eq $durability "off") (eq $ack "both")) -}}
{{- fail (printf "persistence.enabled=false: route %s has durability %s and ack %s, so what it is owed would be lost with its pod; enable persistence, or give the route durability: off or ack: both" .name $durability $ack) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.mode "sidecar") (not .Values.sidecar.containers) -}}
{{- fail "mode sidecar needs sidecar.containers: those of old, which listen on the pod's loopback alone" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.admin.expose) -}}
{{- fail "serviceMonitor.enabled needs admin.expose: a Prometheus does not reach the pod's loopback" -}}
{{- end -}}
{{- if and (or .Values.verify.enabled .Values.backfill.enabled) (not .Values.config.consistency) -}}
{{- fail "verify and backfill need config.consistency, which says where both sides keep their events" -}}
{{- end -}}
{{- if and (or .Values.verify.enabled .Values.backfill.enabled) (not .Values.persistence.enabled) -}}
{{- fail "verify and backfill need persistence: they ask the instance by the socket on its volume" -}}
{{- end -}}
{{- end -}}

{{/* The configuration, with what a pod decides where it says nothing. */}}
{{- define "crossfade.config" -}}
{{- $tcp := printf "127.0.0.1:%d" (int .Values.ports.admin) -}}
{{- $admin := dict "tcp" $tcp -}}
{{- if .Values.admin.expose -}}
{{- $admin = dict "tcp" (printf "${POD_IP}:%d" (int .Values.ports.admin)) "tls_cert" "/run/secrets/crossfade-admin/tls.crt" "tls_key" "/run/secrets/crossfade-admin/tls.key" -}}
{{- end -}}
{{- $own := dict "listen" (list (printf "0.0.0.0:%d" (int .Values.ports.http))) "state_dir" "/var/lib/crossfade" "salt_file" (printf "/run/secrets/crossfade/%s" .Values.salt.key) "instance" "${POD_NAME}" "admin" $admin -}}
{{- merge (deepCopy .Values.config) $own | toYaml -}}
{{- end -}}

{{- define "crossfade.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "crossfade.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "crossfade.env" -}}
- {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "crossfade.volumeMounts" -}}
- {name: config, mountPath: /etc/crossfade, readOnly: true}
- {name: salt, mountPath: /run/secrets/crossfade, readOnly: true}
- {name: state, mountPath: /var/lib/crossfade}
- {name: tmp, mountPath: /tmp}
{{- if .Values.admin.expose }}
- {name: admin, mountPath: /run/secrets/crossfade-admin, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "crossfade.volumes" -}}
- name: config
  configMap: {name: {{ include "crossfade.name" . }}}
- name: salt
  secret: {secretName: {{ .Values.salt.secret }}, defaultMode: 0440}
- name: tmp
  emptyDir: {sizeLimit: 4Gi}
{{- if .Values.admin.expose }}
- name: admin
  secret: {secretName: {{ .Values.admin.tlsSecret }}, defaultMode: 0440}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The proxy's container, of the pod or as its native sidecar. */}}
{{- define "crossfade.container" -}}
- name: crossfade
  image: {{ include "crossfade.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [run, /etc/crossfade/crossfade.yaml]
  {{- if eq .Values.mode "sidecar" }}
  restartPolicy: Always
  {{- end }}
  env:
    {{- include "crossfade.env" . | nindent 4 }}
  ports:
    - {name: http, containerPort: {{ .Values.ports.http }}}
    {{- if .Values.admin.expose }}
    - {name: admin, containerPort: {{ .Values.ports.admin }}}
    {{- end }}
  startupProbe:
    exec: {command: [proxyctl, --admin, "unix:/var/lib/crossfade/admin.sock", status, --ready]}
    periodSeconds: 1
    timeoutSeconds: 5
    failureThreshold: 120
  {{- if .Values.admin.expose }}
  readinessProbe:
    httpGet: {path: /readyz, port: admin, scheme: HTTPS}
    periodSeconds: 2
    timeoutSeconds: 3
    failureThreshold: 2
  livenessProbe:
    httpGet: {path: /healthz, port: admin, scheme: HTTPS}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  {{- else }}
  readinessProbe:
    exec: {command: [proxyctl, --admin, "unix:/var/lib/crossfade/admin.sock", status, --ready]}
    periodSeconds: 5
    timeoutSeconds: 5
    failureThreshold: 2
  livenessProbe:
    exec: {command: [proxyctl, --admin, "unix:/var/lib/crossfade/admin.sock", status, -o, json]}
    periodSeconds: 20
    timeoutSeconds: 10
    failureThreshold: 3
  {{- end }}
  {{- if and (eq .Values.mode "edge") .Values.preStopSeconds }}
  lifecycle:
    preStop: {sleep: {seconds: {{ .Values.preStopSeconds }}}}
  {{- end }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  securityContext:
    {{- include "crossfade.securityContext" . | nindent 4 }}
  volumeMounts:
    {{- include "crossfade.volumeMounts" . | nindent 4 }}
{{- end -}}

{{/* The pod of verify and backfill: on the instance's node, with its volume, so that its socket is there. */}}
{{- define "crossfade.checker" -}}
metadata:
  labels:
    app.kubernetes.io/name: crossfade-checks
    app.kubernetes.io/instance: {{ .root.Release.Name }}
spec:
  restartPolicy: Never
  serviceAccountName: {{ include "crossfade.name" .root }}
  automountServiceAccountToken: false
  affinity:
    podAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        - topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              statefulset.kubernetes.io/pod-name: {{ include "crossfade.name" .root }}-0
  securityContext:
    {{- include "crossfade.podSecurityContext" .root | nindent 4 }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: checker
      image: {{ include "crossfade.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args:
        {{- toYaml .args | nindent 8 }}
      env:
        {{- include "crossfade.env" .root | nindent 8 }}
      resources:
        {{- toYaml .resources | nindent 8 }}
      securityContext:
        {{- include "crossfade.securityContext" .root | nindent 8 }}
      volumeMounts:
        {{- include "crossfade.volumeMounts" .root | nindent 8 }}
  volumes:
    {{- include "crossfade.volumes" .root | nindent 4 }}
    - name: state
      persistentVolumeClaim: {claimName: state-{{ include "crossfade.name" .root }}-0}
{{- end -}}
