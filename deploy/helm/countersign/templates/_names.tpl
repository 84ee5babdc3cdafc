{{- define "countersign.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 41 | trimSuffix "-" -}}
{{- end -}}

{{/* Shorter than the 63 characters of a DNS label, so that suffixes fit. */}}
{{- define "countersign.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 41 | trimSuffix "-" -}}
{{- else if contains (include "countersign.name" .) .Release.Name -}}
{{- .Release.Name | trunc 41 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "countersign.name" .) | trunc 41 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "countersign.controllerName" -}}
{{- printf "%s-controller" (include "countersign.fullname" .) -}}
{{- end -}}

{{/* A ClusterRole has no namespace, so its name must differ between two releases. */}}
{{- define "countersign.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "countersign.fullname" .) -}}
{{- end -}}

{{- define "countersign.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "countersign.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "countersign.controllerAccountName" -}}
{{- if .Values.controller.serviceAccount.create -}}
{{- default (include "countersign.controllerName" .) .Values.controller.serviceAccount.name -}}
{{- else -}}
{{- required "controller.serviceAccount.name is needed when controller.serviceAccount.create is false" .Values.controller.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "countersign.image" -}}
{{- include "countersign.imageOf" (list . .Values.image) -}}
{{- end -}}

{{/* Of the chart's context and an image's values. */}}
{{- define "countersign.imageOf" -}}
{{- $chart := (index . 0).Chart -}}
{{- with index . 1 -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "countersign.selector" -}}
app.kubernetes.io/name: {{ include "countersign.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "countersign.controllerSelector" -}}
app.kubernetes.io/name: {{ include "countersign.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end -}}

{{- define "countersign.labels" -}}
{{ include "countersign.selector" . }}
{{ include "countersign.versionLabels" . }}
{{- end -}}

{{- define "countersign.controllerLabels" -}}
{{ include "countersign.controllerSelector" . }}
{{ include "countersign.versionLabels" . }}
{{- end -}}

{{/* Of what is neither gateway nor controller, so that no Service and no NetworkPolicy selects its pods. */}}
{{- define "countersign.commonLabels" -}}
app.kubernetes.io/name: {{ include "countersign.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{ include "countersign.versionLabels" . }}
{{- end -}}

{{/* `countersign doctor` finds an installation by part-of. */}}
{{- define "countersign.versionLabels" -}}
app.kubernetes.io/part-of: countersign
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What gateways and controller have in common, at the level of a pod's spec. */}}
{{- define "countersign.placement" -}}
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

{{/* One per node and zone where that is possible. `topologySpreadConstraints` replaces it. */}}
{{- define "countersign.spread" -}}
{{- $selector := index . 0 -}}
{{- with index . 1 -}}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- else -}}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* A token with a short lifetime, the API server's CA, and the pod's own namespace. */}}
{{- define "countersign.accountVolume" -}}
name: account
projected:
  defaultMode: 288
  sources:
    - serviceAccountToken: { path: token, expirationSeconds: 3600 }
    - configMap:
        name: kube-root-ca.crt
        items: [{ key: ca.crt, path: ca.crt }]
    - downwardAPI:
        items: [{ path: namespace, fieldRef: { fieldPath: metadata.namespace } }]
{{- end -}}

{{- define "countersign.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
# If fsGroup is applied again at each mount, the group can write the root's key, and the
# gateway refuses a key that others can change.
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "countersign.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* The names under which a gateway is called. */}}
{{- define "countersign.serves" -}}
{{- $name := include "countersign.fullname" . -}}
{{- $names := list -}}
{{- range list $name (printf "%s-headless" $name) -}}
{{- $names = append $names (printf "%s.%s.svc" . $.Release.Namespace) -}}
{{- $names = append $names (printf "%s.%s.svc.%s" . $.Release.Namespace $.Values.injection.clusterDomain) -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{/* Where the gateways' certificates come from. */}}
{{- define "countersign.signsServing" -}}{{ if not .Values.tls.existingSecret }}yes{{ end }}{{- end -}}
{{- define "countersign.signsInterception" -}}
{{ if not (or .Values.ca.existingSecret .Values.persistence.enabled) }}yes{{ end }}
{{- end -}}
{{- define "countersign.trusts" -}}
{{- if .Values.controller.enabled -}}yes{{- end -}}
{{- end -}}
{{- define "countersign.webhook" -}}
{{- if and .Values.controller.enabled (eq .Values.injection.engine "webhook") -}}yes{{- end -}}
{{- end -}}
