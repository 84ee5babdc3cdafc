{{/* Refuses values that would install but not work, and says what to do instead. */}}
{{- define "countersign.require" -}}
{{- if and (not .Values.ca.existingSecret) (not .Values.persistence.enabled) -}}
{{- fail "the gateway would make a new root at each start, which no pod trusts: set ca.existingSecret, or persistence.enabled=true" -}}
{{- end -}}
{{- if and (gt (int .Values.replicaCount) 1) (not .Values.ca.existingSecret) -}}
{{- fail "several gateways need a common root: set ca.existingSecret (see deploy/README.md) and persistence.enabled=false, or replicaCount=1" -}}
{{- end -}}
{{- if and (gt (int .Values.replicaCount) 1) .Values.persistence.enabled -}}
{{- fail "several gateways cannot share one state directory: set persistence.enabled=false, or replicaCount=1" -}}
{{- end -}}
{{- end -}}
