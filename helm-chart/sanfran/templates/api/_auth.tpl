{{/* Who may use REST: on a cluster it is no loopback address, so it asks everybody who they are. */}}
{{- define "sanfran.auth.settings" -}}
{{- $auth := .Values.api.auth -}}
{{- $jwt := $auth.jwt -}}
{{- $ways := list -}}
{{- if $auth.basic.enabled }}{{ $ways = append $ways "basic" }}{{ end -}}
{{- if $jwt.enabled }}{{ $ways = append $ways "jwt" }}{{ end -}}
{{- if not $ways -}}
{{- fail "\n\napi.auth: nobody could sign in; leave api.auth.basic.enabled on, or set api.auth.jwt.enabled.\n" -}}
{{- end -}}
- name: SANFRAN_API_AUTH
  value: {{ $ways | join "," | quote }}
{{- if $auth.basic.enabled }}
{{- if and $auth.basic.adminPassword (lt (len $auth.basic.adminPassword) 8) -}}
{{- fail (printf "\n\napi.auth.basic.adminPassword: has %d characters; at least 8 are needed.\n" (len $auth.basic.adminPassword)) -}}
{{- end }}
- name: SANFRAN_API_ADMIN_PASSWORD_FILE
  value: /etc/sanfran/secret/admin-password
{{- if $auth.basic.users }}
- name: SANFRAN_API_USERS_FILE
  value: /etc/sanfran/users/users
{{- end }}
{{- end }}
{{- if $jwt.enabled }}
{{- if or (empty $jwt.issuer) (empty $jwt.audience) -}}
{{- fail "\n\napi.auth.jwt: issuer and audience must be named, or tokens meant for others would be accepted.\n" -}}
{{- end }}
{{- if eq (empty $jwt.jwks) (empty $jwt.existingSecret) -}}
{{- fail "\n\napi.auth.jwt: needs either jwks, the URL of the provider's keys, or existingSecret with a shared secret.\n" -}}
{{- end }}
{{- if $jwt.jwks }}
- name: SANFRAN_API_JWT_JWKS
  value: {{ $jwt.jwks | quote }}
{{- else }}
- name: SANFRAN_API_JWT_SECRET_FILE
  value: /etc/sanfran/jwt/secret
{{- end }}
- name: SANFRAN_API_JWT_ISSUER
  value: {{ $jwt.issuer | quote }}
- name: SANFRAN_API_JWT_AUDIENCE
  value: {{ $jwt.audience | quote }}
- name: SANFRAN_API_JWT_USER_CLAIM
  value: {{ $jwt.userClaim | quote }}
- name: SANFRAN_API_JWT_GROUPS_CLAIM
  value: {{ $jwt.groupsClaim | quote }}
{{- end }}
{{- if $auth.access }}
- name: SANFRAN_API_ACCESS_FILE
  value: /etc/sanfran/access/access.yaml
{{- end }}
{{- end -}}

{{/* One line a user: name, hash, groups. */}}
{{- define "sanfran.auth.users" -}}
{{- range .Values.api.auth.basic.users }}
{{- printf "%s:%s:%s\n" .name .hash (join "," (.groups | default list)) }}
{{- end }}
{{- end -}}
