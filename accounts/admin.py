"""Admin of users and API keys. Changes call `accounts.users` and `accounts.api_keys`, as the command line does."""

from typing import Any, Final

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminSelectWidget

from accounts import api_keys, audit, users
from accounts.audit import Action
from accounts.callers import Role
from accounts.models import APIKey, AuditEntry

ROLES: Final = [(str(role), str(role)) for role in Role]
ROLE_COLOURS: Final = {"viewer": "default", "operator": "info", "admin": "warning"}
ROLE_HELP: Final = (
    "Viewers can read their own tasks, operators can also run them, admins can do everything for all users."
)

for model in (Group, User):
    admin.site.unregister(model)


class RoleField(forms.ChoiceField):
    def __init__(self) -> None:
        super().__init__(
            choices=ROLES, initial=str(Role.OPERATOR), help_text=ROLE_HELP, widget=UnfoldAdminSelectWidget()
        )


class NewUserForm(UserCreationForm):
    role = RoleField()

    def clean_username(self) -> str | None:
        name: str | None = super().clean_username()
        if name is not None:  # else it is refused already
            users.check_new_name(name)
        return name


class UserForm(forms.ModelForm):  # type: ignore[type-arg]  # Django's class takes no type parameter at runtime
    role = RoleField()

    class Meta:
        model = User
        fields = ("is_active",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["role"] = str(users.role_of(self.instance))


class NewPasswordForm(AdminPasswordChangeForm):
    @transaction.atomic
    def save(self, commit: bool = True) -> Any:
        audit.record(Action.USER_PASSWORD_SET, target=self.user.username)
        return super().save(commit)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    form = UserForm
    add_form = NewUserForm
    change_password_form = NewPasswordForm
    list_display = ("username", "role_", "is_active", "last_login", "date_joined")
    list_filter = ("is_active", "is_superuser")
    search_fields = ("username",)
    ordering = ("username",)
    filter_horizontal = ()
    # Tasks refer to their owner by name, so a reused name would inherit tasks. Users are never renamed or deleted.
    readonly_fields = ("username", "password_", "last_login", "date_joined")
    fieldsets = ((None, {"fields": ("username", "password_", "role", "is_active", "last_login", "date_joined")}),)
    add_fieldsets = ((None, {"fields": ("username", "password1", "password2", "role")}),)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        return self.readonly_fields if obj else ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return users.with_role()

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        with audit.origin(actor=request.user.get_username()):
            if not change:
                audit.record(Action.USER_CREATED, target=obj.username, role=str(Role.OPERATOR))
            elif "is_active" in form.changed_data:
                users.set_active(obj.username, is_active=obj.is_active)
            users.set_role(obj.username, Role[form.cleaned_data["role"].upper()])

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        with audit.origin(actor=request.user.get_username()):
            response: HttpResponse = super().user_change_password(request, id, form_url)
            return response

    @display(description="Role", label=ROLE_COLOURS)  # type: ignore[untyped-decorator]
    def role_(self, user: User) -> str:
        return str(users.role_of(user))

    @admin.display(description="Password")
    def password_(self, user: User) -> str:
        url = reverse("admin:auth_user_password_change", args=[user.pk])
        return format_html('<a class="underline" href="{}">Change password</a>', url)


class ReadOnlyAdmin(ModelAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(APIKey)
class APIKeyAdmin(ReadOnlyAdmin):
    """A new key is shown once, to its owner only."""

    list_display = ("prefix_", "name", "user", "role_limit", "is_read_only", "last_used_at", "expires_at", "revoked_at")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    list_select_related = ("user",)
    list_per_page = 50
    search_fields = ("=user__username", "name", "^prefix")
    ordering = ("-created_at",)
    fields = (*list_display, "created_at")
    actions = ("revoke",)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Refuse filters on hashes, which would allow guessing them bit by bit."""
        return not lookup.startswith(("hash", "user__password")) and bool(
            super().lookup_allowed(lookup, value, request)
        )

    @admin.display(description="Key")
    def prefix_(self, key: APIKey) -> str:
        return f"{key.prefix}…"

    @admin.action(description="Revoke")
    def revoke(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> None:
        for key in queryset.filter(revoked_at=None):
            api_keys.revoke_key(key.prefix, actor=request.user.get_username())
            self.log_change(request, key, "Revoked")
            self.message_user(request, f"Revoked the API key '{key.name}' of {key.user.username}.")


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "action", "actor", "address", "target", "details")
    list_filter = ("action", "at")
    list_per_page = 50
    list_max_show_all = 0
    list_disable_select_all = True
    show_full_result_count = False
    search_fields = ("=actor", "=address", "=target")
    search_help_text = "Search by user, address or target"
    ordering = ("-id",)
    sortable_by = ()
    fields = list_display
