{{/* The beginning of all names: that of the release, as long as a suffix leaves room. */}}
{{- define "apflow.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{/* The labels by which pods of a component are selected. Arguments: the root, and the component. */}}
{{- define "apflow.selector" -}}
app.kubernetes.io/name: aipartnerupflow
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* All labels of an object of a component. */}}
{{- define "apflow.labels" -}}
{{ include "apflow.selector" . }}
app.kubernetes.io/part-of: aipartnerupflow
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{/* What every pod has. Variables of services, such as AIPARTNERUPFLOW_PORT=tcp://…, would be taken for settings. */}}
{{- define "apflow.pod" -}}
enableServiceLinks: false
automountServiceAccountToken: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
volumes: # locks and counters of this pod; nothing in them is worth a backup
  - {name: data, emptyDir: {}}
  - {name: tmp, emptyDir: {}}
{{- end }}

{{/* What every container has: the image, the settings, and a read-only root. */}}
{{- define "apflow.container" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  {{- range $name, $value := include "apflow.settings" . | fromYaml }}
  - {name: {{ $name }}, value: {{ $value | toString | quote }}}
  {{- end }}
envFrom:
  - secretRef: {name: {{ required "secretName is required: the Secret with the URL of the database and the keys" .Values.secretName }}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: data, mountPath: /data}
  - {name: tmp, mountPath: /tmp}
{{- end }}

{{/* The settings, and those that follow from names and ports of the chart. */}}
{{- define "apflow.settings" -}}
{{- $settings := dict
  "AIPARTNERUPFLOW_HOST" "0.0.0.0"
  "AIPARTNERUPFLOW_PORT" "8000"
  "AIPARTNERUPFLOW_WORKER_METRICS_PORT" "9464"
  "AIPARTNERUPFLOW_SERVER_ALLOWED_HOSTS" (printf "%s-web,.%s.svc.cluster.local" (include "apflow.name" .) .Release.Namespace) }}
{{- if .Values.ingress.enabled }}
{{- $_ := set $settings "AIPARTNERUPFLOW_SERVER_PUBLIC_URL" (printf "https://%s" .Values.ingress.host) }}
{{- with .Values.ingress.trustedProxies }}
{{- $_ := set $settings "AIPARTNERUPFLOW_SERVER_TRUSTED_PROXIES" . }}
{{- end }}
{{- end }}
{{- mergeOverwrite $settings .Values.settings | toYaml }}
{{- end }}
