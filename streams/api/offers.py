"""The models that the operator offers."""

from django.conf import settings
from ninja import Router

from streams.api.admission import Asked
from streams.api.schemas import Offer, Offers

router = Router(tags=["models"])


@router.get("/", response=Offers, summary="What may be asked for")
def models(request: Asked) -> Offers:
    return Offers(
        items=[Offer(id=name) for name in settings.LLM_MODELS], default=settings.LLM_MODEL
    )
