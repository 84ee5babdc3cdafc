{{/* The ConfigMap of the gateway's file, by its content. */}}
{{- define "countersign.configName" -}}
{{- printf "%s-%s" (include "countersign.fullname" .) (include "countersign.gateway" . | sha256sum | trunc 10) -}}
{{- end -}}

{{/*
The ConfigMap that the Deployment in the cluster uses, if it is another than this release's: Helm removes at once
what a release no longer has, and pods that run may still restart.
*/}}
{{- define "countersign.previousConfig" -}}
{{- $deployment := lookup "apps/v1" "Deployment" .Release.Namespace (include "countersign.fullname" .) -}}
{{- range dig "spec" "template" "spec" "volumes" (list) $deployment -}}
{{- $used := dig "configMap" "name" "" . -}}
{{- if and (eq .name "gateway") $used (ne $used (include "countersign.configName" $)) -}}
{{- $found := lookup "v1" "ConfigMap" $.Release.Namespace $used -}}
{{- if $found -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $used }}
  namespace: {{ $.Release.Namespace }}
  labels:
    {{- include "countersign.labels" $ | nindent 4 }}
{{- if $found.immutable }}
immutable: true
{{- end }}
data:
  {{- toYaml $found.data | nindent 2 }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The ConfigMap of the controller's files, by their content. */}}
{{- define "countersign.injectionName" -}}
{{- $content := printf "%s\n%s" (include "countersign.injection" .) (include "countersign.trust" .) -}}
{{- printf "%s-%s" (include "countersign.controllerName" .) ($content | sha256sum | trunc 10) -}}
{{- end -}}
