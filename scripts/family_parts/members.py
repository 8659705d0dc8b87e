"""A small member of every family of timm's models: the module of `timm.models` in which it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class Member:
    """One model of a family, and how it is made small."""

    family: str
    name: str
    size: int
    """Pixels of an edge of the square images."""
    sized: bool = False
    """Whether the model is built for that size, by `img_size`; others take any."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `timm.create_model`."""

    @property
    def arguments(self) -> dict[str, Any]:
        """All of them."""
        return self.args | ({"img_size": self.size} if self.sized else {})


MEMBERS: Final = (
    Member("beit", "beit_base_patch16_224", 64, sized=True, args={"depth": 2}),
    Member("byoanet", "eca_botnext26ts_256", 64, sized=True),
    Member("byobnet", "test_byobnet", 64),
    Member("cait", "cait_xxs24_224", 64, sized=True, args={"depth": 3}),
    Member("coat", "coat_tiny", 64, sized=True),
    Member("convit", "convit_tiny", 64, sized=True),
    Member("convmixer", "convmixer_768_32", 64),
    Member("convnext", "test_convnext", 64),
    Member("cpubone", "cpubone_nano", 64),
    Member("crossvit", "crossvit_tiny_240", 240),
    Member("csatv2", "csatv2", 64),
    Member("cspnet", "cs3darknet_focus_s", 64),
    Member("cspnext", "cspnext_tiny", 64),
    Member("davit", "davit_tiny", 64),
    Member("deepseek_vit", "deepseek_vit_412m", 224, args={"depth": 2, "embed_dim": 64, "num_heads": 2}),
    Member("deit", "deit_tiny_patch16_224", 64, sized=True),
    Member("densenet", "densenet121", 64),
    Member("dla", "dla46x_c", 64),
    Member("dpn", "dpn48b", 64),
    Member("edgenext", "edgenext_xx_small", 64),
    Member("efficientformer", "efficientformer_l1", 224),
    Member("efficientformer_v2", "efficientformerv2_s0", 64, sized=True),
    Member("efficientnet", "test_efficientnet", 64),
    Member("efficientvim", "efficientvim_m1", 64),
    Member("efficientvit_mit", "efficientvit_b0", 64),
    Member("efficientvit_msra", "efficientvit_m0", 64, sized=True),
    Member("eva", "vit_tiny_patch16_dinov3_qkvb", 64, sized=True),
    Member("fasternet", "fasternet_t0", 64),
    Member("fastvit", "fastvit_t8", 64),
    Member("focalnet", "focalnet_tiny_srf", 64),
    Member("gcvit", "gcvit_xxtiny", 64, sized=True),
    Member("gemma4_vit", "gemma4_vit_167m", 96, args={"depth": 2}),
    Member("ghostnet", "ghostnet_050", 64),
    Member("hardcorenas", "hardcorenas_b", 64),
    Member("hgnet", "hgnetv2_b0", 64),
    Member("hiera", "hiera_tiny_224", 64, sized=True),
    Member("hieradet_sam2", "sam2_hiera_tiny", 64),
    Member("hrnet", "hrnet_w18_small", 64),
    Member("iformer", "iformer_t", 64),
    Member("inception_next", "inception_next_atto", 64),
    Member("inception_resnet_v2", "inception_resnet_v2", 96),
    Member("inception_v3", "inception_v3", 96),
    Member("inception_v4", "inception_v4", 96),
    Member("lcnetv2", "lcnetv2_small", 64),
    Member("levit", "levit_128s", 64, sized=True),
    Member("lowformer", "lowformer_b0", 64),
    Member("mambaout", "test_mambaout", 64),
    Member("maxxvit", "test_coatnet", 64, sized=True),
    Member("metaformer", "poolformerv2_s12", 64),
    Member("mlp_mixer", "gmlp_ti16_224", 64, sized=True),
    Member("mobilenetv3", "lcnet_035", 64),
    Member("mobilenetv5", "mobilenetv5_base", 64),
    Member("mobilevit", "mobilevit_xxs", 64),
    Member("mvitv2", "mvitv2_tiny", 64, sized=True),
    Member("naflexvit", "naflexvit_base_patch16_parfac_gap", 64, args={"depth": 2}),
    Member("nasnet", "nasnetalarge", 64),
    Member("nest", "nest_tiny", 64, sized=True),
    Member("nextvit", "nextvit_small", 64),
    Member("nfnet", "test_nfnet", 64),
    Member("pit", "pit_ti_224", 64, sized=True),
    Member("pnasnet", "pnasnet5large", 64),
    Member("pvt_v2", "pvt_v2_b0", 64),
    Member("qwen3_vit", "qwen3_vit_88m", 64, args={"depth": 2}),
    Member("rdnet", "rdnet_tiny", 64),
    Member("regnet", "regnetx_002", 64),
    Member("repghost", "repghostnet_050", 64),
    Member("repvit", "repvit_m1", 64),
    Member("res2net", "res2next50", 64),
    Member("resnest", "resnest14d", 64),
    Member("resnet", "test_resnet", 64),
    Member("resnetv2", "resnetv2_18", 64),
    Member("rexnet", "rexnet_100", 64),
    Member("selecsls", "selecsls42", 64),
    Member("senet", "legacy_seresnet18", 64),
    Member("sequencer", "sequencer2d_s", 64, sized=True),
    Member("shvit", "shvit_s1", 64),
    Member("sknet", "skresnet18", 64),
    Member("starnet", "starnet_s050", 64),
    Member("swiftformer", "swiftformer_xs", 64, sized=True),
    Member("swin_transformer", "swin_tiny_patch4_window7_224", 64, sized=True),
    Member("swin_transformer_v2", "swinv2_tiny_window16_256", 64, sized=True),
    Member("swin_transformer_v2_cr", "swinv2_cr_tiny_224", 64, sized=True),
    Member("tiny_vit", "tiny_vit_5m_224", 64),
    Member("tnt", "tnt_s_patch16_224", 64, sized=True),
    Member("tresnet", "tresnet_m", 64),
    Member("twins", "twins_svt_small", 64, sized=True),
    Member("vgg", "vgg11", 64),
    Member("visformer", "visformer_tiny", 64, sized=True),
    Member("vision_transformer", "test_vit", 64, sized=True),
    Member("vision_transformer_hybrid", "vit_tiny_r_s16_p8_224", 64, sized=True),
    Member("vision_transformer_relpos", "test_vit_relpos", 64, sized=True),
    Member("vision_transformer_sam", "samvit_base_patch16_224", 64, sized=True, args={"depth": 2}),
    Member("vitamin", "vitamin_small_224", 64, sized=True),
    Member("volo", "volo_d1_224", 64, sized=True),
    Member("vovnet", "ese_vovnet19b_slim_dw", 64),
    Member("xception", "legacy_xception", 64),
    Member("xception_aligned", "xception41p", 64),
    Member("xcit", "xcit_nano_12_p8_224", 64, sized=True),
)
