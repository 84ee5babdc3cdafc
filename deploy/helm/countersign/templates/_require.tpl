{{/* Refuses values that would install but not work, and says what to do instead. */}}
{{- define "countersign.require" -}}
{{- $several := or (gt (int .Values.replicaCount) 1) .Values.autoscaling.enabled -}}
{{- if and $several .Values.persistence.enabled -}}
{{- fail "several gateways cannot share one state directory: set persistence.enabled=false, or replicaCount=1" -}}
{{- end -}}
{{- if and .Values.ca.existingSecret .Values.trust.rootSecret -}}
{{- fail "ca.existingSecret gives gateways the root's key, trust.rootSecret the controller alone: set one" -}}
{{- end -}}
{{- if not .Values.controller.enabled -}}
{{- if include "countersign.signsServing" . | trim -}}
{{- fail "without a controller nobody signs the gateways' certificates: set tls.existingSecret, or controller.enabled=true" -}}
{{- end -}}
{{- if include "countersign.signsInterception" . | trim -}}
{{- fail "without a controller the gateway would make a new root at each start, which no pod trusts: set ca.existingSecret, or persistence.enabled=true" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.controller.enabled (eq .Values.injection.engine "admissionPolicy") -}}
{{- include "countersign.requirePolicy" . -}}
{{- end -}}
{{- end -}}

{{/* The admission policy is made for these; the webhook knows all of them. */}}
{{- define "countersign.requirePolicy" -}}
{{- with .Values.injection -}}
{{- if or (ne (int .relayUid) 1337) (ne (int .relayGid) 1337) (ne (int .ports.http) 3128) (ne (int .ports.redirected) 15001) (ne (int .ports.health) 15021) -}}
{{- fail "injection.engine=admissionPolicy has fixed relayUid, relayGid and ports: leave them, or use the webhook" -}}
{{- end -}}
{{- if or (ne (toJson .relayResources) (include "countersign.policyResources" $)) (ne (toJson .redirectResources) (include "countersign.policyResources" $)) -}}
{{- fail "injection.engine=admissionPolicy has fixed relayResources and redirectResources: leave them, or use the webhook" -}}
{{- end -}}
{{- if .defaultMode -}}
{{- fail "injection.engine=admissionPolicy follows the namespace's Pod Security: leave injection.defaultMode empty, or use the webhook" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "countersign.policyResources" -}}
{{- dict "requests" (dict "cpu" "10m" "memory" "16Mi") "limits" (dict "memory" "64Mi") | toJson -}}
{{- end -}}
